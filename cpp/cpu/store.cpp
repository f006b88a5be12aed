#include "cpu/store.h"

#include <mutex>

namespace ranvier::cpu {

Store::Store(DType dtype, std::vector<Dims> shapes) : dtype_(dtype), shapes_(std::move(shapes)) {
  std::int64_t at = 0;
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    offsets_.push_back(at);
    at += bytes(i);
  }
  data_ = Buffer(static_cast<std::size_t>(at));
  data_.clear();
}

std::int64_t Store::bytes(std::size_t i) const {
  return static_cast<std::int64_t>(
      align_up(static_cast<std::size_t>(Type{false, shapes_[i]}.count()) * ranvier::size_of(dtype_)));
}

void Store::write(std::size_t i, const HostArray& values) {
  const std::unique_lock lock(mutex);
  const HostArray flat = values.flat();
  gather(flat, nullptr, flat.rows, dtype_, data_.data() + offsets_[i]);
  ++version_;
}

}  // namespace ranvier::cpu
