#include "cpu/bf16_path.h"

#include <algorithm>

#include "core/buffer.h"
#include "core/error.h"

namespace ranvier::cpu {
namespace {

std::int64_t tiles(std::int64_t n) { return (n + kTileRows - 1) / kTileRows; }

// An operand of n rows (of A; columns of B): its tiles, then for each 16 rows whether bfloat16 parts stand for them and
// what was packed with them.
struct Operand {
  std::uint16_t* tiles;
  bool* good;
  std::int64_t count;  // of 16 rows

  Operand(std::byte* at, std::int64_t n, std::int64_t K, int parts)
      : tiles(reinterpret_cast<std::uint16_t*>(at)),
        good(reinterpret_cast<bool*>(tiles + bf16_elements(n, K, parts))),
        count(cpu::tiles(n)) {}
  static std::size_t bytes(std::int64_t n, std::int64_t K, int parts) {
    return align_up(static_cast<std::size_t>(bf16_elements(n, K, parts)) * sizeof(std::uint16_t) +
                    static_cast<std::size_t>(cpu::tiles(n)));
  }
  bool all_good() const {
    return std::all_of(good, good + count, [](bool each) { return each; });
  }
};

}  // namespace

Bf16Path::Bf16Path(Precision precision, bool keeps_b)
    : unit_(bf16_unit(precision)), parts_(bf16_parts(precision)), keeps_b_(keeps_b) {}

bool Bf16Path::pays(std::int64_t M, std::int64_t N, std::int64_t K) const {
  if (!unit_ || K < kTileK / 2) return false;
  // Packed ahead, B of one part is half the bytes of float32, which is what few rows wait for; more parts are more.
  if (keeps_b_) return N >= kTileRows && (parts_ == 1 || M >= kTileRows);
  // An element of A is packed once for N products, one of B for M.
  return M * N >= unit_->least_products[parts_ - 1] * (M + N);
}

std::size_t Bf16Path::shared_bytes(std::int64_t M, std::int64_t N, std::int64_t K) const {
  if (!pays(M, N, K)) return 0;
  return Operand::bytes(M, K, parts_) + (keeps_b_ ? 0 : Operand::bytes(N, K, parts_));
}

std::size_t Bf16Path::packed_bytes(std::int64_t N, std::int64_t K) const {
  return keeps_b_ && pays(kTileRows, N, K) ? Operand::bytes(N, K, parts_) : 0;
}

void Bf16Path::pack_b(const Product<float>& p, const Worker& w, std::byte* to) const {
  const Operand b(to, p.N, p.K, parts_);
  const Range share = ranvier::share(b.count, w.id, w.count);
  std::fill(b.good + share.begin, b.good + share.end,
            unit_->pack_b(parts_, p.N, p.K, p.b, p.b_col, p.b_row, share.begin, share.end, b.tiles));
}

void Bf16Path::pack(const Product<float>& p, const Worker& w, std::byte* shared, const std::byte* packed_b) const {
  const Operand a(shared, p.M, p.K, parts_);
  const Range share = ranvier::share(a.count, w.id, w.count);
  std::fill(a.good + share.begin, a.good + share.end,
            unit_->pack_a(parts_, p.M, p.K, p.a, p.a_row, p.a_col, share.begin, share.end, a.tiles));
  if (!packed_b) pack_b(p, w, shared + Operand::bytes(p.M, p.K, parts_));
}

bool Bf16Path::multiply(const Product<float>& p, const Worker& w, std::byte* shared, const std::byte* packed_b) const {
  const Operand a(shared, p.M, p.K, parts_);
  std::byte* const own_b = shared + Operand::bytes(p.M, p.K, parts_);
  const Operand b(packed_b ? const_cast<std::byte*>(packed_b) : own_b, p.N, p.K, parts_);
  // Told from the whole operands, so that no split of the work changes a bit.
  if (!a.all_good() || !b.all_good()) {
    if (w.id == 0) ++refused_;
    return false;
  }
  constexpr std::int64_t kGranule = 2 * kTileRows;  // the block of AMX
  const bool by_rows = p.M >= p.N;
  const Range i = by_rows ? ranvier::share(p.M, w.id, w.count, kGranule) : Range{0, p.M};
  const Range j = by_rows ? Range{0, p.N} : ranvier::share(p.N, w.id, w.count, kGranule);
  if (i.begin == i.end || j.begin == j.end) return true;
  const std::int64_t stride = bf16_elements(kTileRows, p.K, parts_) / kTileRows;  // of a row, were it alone
  Bf16Product block{i.end - i.begin,
                    j.end - j.begin,
                    p.K,
                    a.tiles + i.begin * stride,
                    b.tiles + j.begin * stride,
                    p.c + i.begin * p.ldc + j.begin,
                    p.ldc};
  Finish<float> finish;
  if (p.bias) block.bias = p.bias + j.begin;
  block.relu = p.relu;
  if (p.finish) {
    finish = p.finish->from(i.begin, j.begin);
    block.finish = &finish;
  }
  unit_->product(parts_, block);
  return true;
}

std::string Bf16Path::name() const {
  const std::int64_t n = refused_;
  return concat(unit_->unit, parts_ == 1 ? "" : concat(" x", parts_ * (parts_ + 1) / 2),
                n > 0 ? concat(", ", n, n == 1 ? " time" : " times", " in float32") : "");
}

}  // namespace ranvier::cpu
