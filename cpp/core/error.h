// Errors that reach a person. The bindings turn ValueError and TypeError into Python's own of the same name;
// std::runtime_error becomes RuntimeError.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace ranvier {

struct ValueError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct TypeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// concat("expected ", 3, ", got ", x): everything that streams, as one string.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

}  // namespace ranvier
