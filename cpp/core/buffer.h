#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ranvier {

// 64 bytes: a cache line, and the widest vector.
inline constexpr std::size_t kAlignment = 64;

constexpr std::size_t align_up(std::size_t n, std::size_t to = kAlignment) { return (n + to - 1) / to * to; }

// An owned, aligned, uninitialised block of bytes.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    // Large blocks on huge pages: a product that walks a 16 MB weight otherwise spends its time in the TLB.
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    const std::size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kAlignment;
    data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, align_up(bytes, alignment)));
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == kHugePage) madvise(data_, align_up(bytes, alignment), MADV_HUGEPAGE);
#endif
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  void clear() const {
    if (bytes_ > 0) std::memset(data_, 0, bytes_);
  }
  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace ranvier
