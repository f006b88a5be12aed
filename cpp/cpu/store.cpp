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

StoreLocks::StoreLocks(const std::vector<Store*>& stores, bool write) : stores_(stores), write_(write) {
  for (Store* store : stores_) write_ ? store->mutex.lock() : store->mutex.lock_shared();
}

StoreLocks::~StoreLocks() {
  for (Store* store : stores_) {
    if (write_) {
      store->touch();
      store->mutex.unlock();
    } else {
      store->mutex.unlock_shared();
    }
  }
}

}  // namespace ranvier::cpu
