#pragma once

#include <atomic>
#include <cstdint>
#include <shared_mutex>
#include <vector>

#include "core/buffer.h"
#include "cpu/host_array.h"

namespace ranvier::cpu {

// A flat block of parameters, each padded to 64 bytes. Networks that share layers share the store.
class Store {
 public:
  Store(DType dtype, std::vector<Dims> shapes);

  DType dtype() const { return dtype_; }
  const Dims& shape(std::size_t i) const { return shapes_.at(i); }
  std::int64_t offset(std::size_t i) const { return offsets_.at(i); }  // bytes
  std::int64_t bytes(std::size_t i) const;                             // padding included
  std::size_t size() const { return shapes_.size(); }
  std::byte* data() const { return data_.data(); }
  std::uint64_t version() const { return version_; }
  void touch() { ++version_; }
  void write(std::size_t i, const HostArray&);

  std::shared_mutex mutex;  // shared to read, alone to write

 private:
  DType dtype_;
  std::vector<Dims> shapes_;
  std::vector<std::int64_t> offsets_;
  Buffer data_;
  std::atomic<std::uint64_t> version_ = 0;
};

// Locks stores that stand in the order of their addresses (so two networks that share some never deadlock) for a scope.
class StoreLocks {
 public:
  StoreLocks(const std::vector<Store*>& stores, bool write);
  ~StoreLocks();
  StoreLocks(const StoreLocks&) = delete;
  StoreLocks& operator=(const StoreLocks&) = delete;

 private:
  const std::vector<Store*>& stores_;
  bool write_;
};

}  // namespace ranvier::cpu
