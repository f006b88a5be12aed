// Every instruction set's products and column sums against the reference: the same bits, except on the baseline, which
// has no fused multiply-add; with B packed once, the same bits as without. All arrays end at a page that cannot be
// touched.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels_test.h"

using namespace ranvier::cpu;

namespace {

enum class Form { kForward, kInput, kWeight, kGeneral };  // Y = X W, dX = dY W^T, dW = X^T dY, any strides
constexpr const char* kFormNames[] = {"Y = X W", "dX = dY W^T", "dW = X^T dY", "general"};

struct Case {
  std::int64_t M, N, K;
  Form form;
  unsigned options;  // bits: bias, relu, finish, wide rows of C
  std::string name() const {
    return std::string(kFormNames[static_cast<int>(form)]) + " M " + std::to_string(M) + " N " + std::to_string(N) +
           " K " + std::to_string(K) + " options " + std::to_string(options);
  }
};
constexpr unsigned kBias = 1, kRelu = 2, kFinish = 4, kWide = 8, kAllOptions = 15;

// Keeps z and scales: shows each element's place and that it is finished once.
template <class T>
void keep_and_scale(const Finish<T>& f, T* c, std::int64_t row, std::int64_t col, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    f.saved[row * f.ld_saved + col + i] = c[i];
    c[i] *= f.alpha;
  }
}

constexpr std::int64_t kMost = 1200 * 1200;

template <class T>
struct Arrays {
  Guarded<T> a{kMost}, b{kMost}, c{kMost}, bias{kMost}, saved{kMost}, packed{kMost}, scratch{8 * kMost};
  void fill(T* x, std::int64_t n, bool integers) {
    for (std::int64_t i = 0; i < n; ++i)
      x[i] = integers ? static_cast<T>(static_cast<int>(random_bits() % 7) - 3)
                      : static_cast<T>(random_bits()) / (1 << 23) - 1;
  }
};

template <class T>
std::vector<T> copy(const T* x, std::int64_t n) {
  return std::vector<T>(x, x + n);
}

// A case's operands, at the ends of the arrays; operator() computes it with one table and gives C, then what finish
// kept.
template <class T>
struct Problem {
  Arrays<T>& arrays;
  Product<T> p;
  std::vector<T> old_c;

  Problem(Arrays<T>& all, const Case& s, bool integers = false) : arrays(all), p{} {
    const std::int64_t step = s.form == Form::kGeneral ? 2 : 1;
    const std::int64_t a_size = s.M * s.K * step, b_size = s.K * s.N * step;
    const std::int64_t ldc = s.N + (s.options & kWide ? 3 : 0);
    T *a = arrays.a.array(a_size), *b = arrays.b.array(b_size), *bias = arrays.bias.array(s.N);
    arrays.fill(a, a_size, integers);
    arrays.fill(b, b_size, integers);
    arrays.fill(bias, s.N, integers);
    p = {s.M, s.N, s.K, a, s.K * step, step, b, s.N * step, step, nullptr, ldc};
    if (s.form == Form::kWeight) p.a_row = 1, p.a_col = s.M;
    if (s.form == Form::kInput) p.b_row = 1, p.b_col = s.K;
    if (s.options & kBias) p.bias = bias;
    p.relu = s.options & kRelu;
    const std::int64_t c_size = s.M == 0 ? 0 : (s.M - 1) * ldc + s.N;
    old_c.resize(static_cast<std::size_t>(c_size));
    arrays.fill(old_c.data(), c_size, integers);
  }

  std::vector<T> operator()(const Kernels<T>& kernels, bool finish) {
    const std::int64_t size = static_cast<std::int64_t>(old_c.size());
    p.c = arrays.c.array(size);
    std::copy(old_c.begin(), old_c.end(), p.c);
    Finish<T> f{keep_and_scale<T>, nullptr, nullptr, arrays.saved.array(p.M * p.N), p.N, T(-0.5)};
    std::fill(f.saved, f.saved + p.M * p.N, T(0));
    p.finish = finish ? &f : nullptr;
    kernels.product(p, arrays.scratch.array(kernels.product_scratch(p.M, p.N, p.K)));
    std::vector<T> out = copy(p.c, size);
    out.insert(out.end(), f.saved, f.saved + p.M * p.N);
    return out;
  }
};

template <class T>
std::string where(const Table& table, const std::string& name) {
  return std::string(table.isa) + (sizeof(T) == 4 ? " float: " : " double: ") + name;
}

// Without fma each of the two results is off by at most one rounding per multiplication and addition, so by
// (2 * longest chain + a few) * eps / 2 times sum |a| |b| + |bias| + |c|, where all factors are at most 1.
template <class T>
void compare(const Table& table, const std::string& name, std::int64_t K, const std::vector<T>& got,
             const std::vector<T>& expected) {
  const bool bits = has_fma(table);
  const double operations = 2.0 * static_cast<double>(std::min(K, kChunk) + K / kChunk) + 6;
  const double tolerance = bits ? 0 : operations * std::numeric_limits<T>::epsilon() * (static_cast<double>(K) + 2);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const bool same = bits ? std::memcmp(&got[i], &expected[i], sizeof(T)) == 0
                           : std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])) <= tolerance;
    if (same) continue;
    return fail(where<T>(table, name) + ": element " + std::to_string(i) + " is " + std::to_string(got[i]) + ", not " +
                std::to_string(expected[i]));
  }
}

// The problem with its B packed, all panels but the first before that: none depends on the others.
template <class T>
Problem<T> with_packed_b(const Kernels<T>& kernels, Problem<T> problem) {
  Product<T>& p = problem.p;
  T* packed = problem.arrays.packed.array(packed_size(p.K, p.N));
  const std::int64_t panels = (p.N + kPanel - 1) / kPanel;
  kernels.pack_b(p.K, p.N, p.b, p.b_row, p.b_col, std::min<std::int64_t>(1, panels), panels, packed);
  kernels.pack_b(p.K, p.N, p.b, p.b_row, p.b_col, 0, std::min<std::int64_t>(1, panels), packed);
  p.b = packed, p.b_row = p.b_col = 0, p.packed = true;
  return problem;
}

template <class T>
void check(Arrays<T>& arrays, const Case& s) {
  Problem<T> problem(arrays, s);
  const std::vector<T> expected = problem(kernels_of<T>(reference_table()), s.options & kFinish);
  each_table([&](const Table& table) {
    if (is_reference(table)) return;
    const Kernels<T>& kernels = kernels_of<T>(table);
    compare(table, s.name(), s.K, problem(kernels, s.options & kFinish), expected);
    compare(table, s.name() + ", B packed", s.K, with_packed_b(kernels, problem)(kernels, s.options & kFinish),
            expected);
  });
}

// What pack_b writes, by the words of kernels.h, and that it stops at a panel's end.
template <class T>
void check_packing(Arrays<T>& arrays) {
  for (std::int64_t K : {0, 1, 3, 4, 5, 19, 64})
    for (std::int64_t N : {0, 1, 2, 7, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 128, 129, 150, 200})
      for (int form : {0, 1, 2}) {  // rows contiguous, columns contiguous, neither
        const std::int64_t size = K * N * (form == 2 ? 2 : 1);
        T* b = arrays.b.array(size);
        arrays.fill(b, size, false);
        const std::int64_t b_row = form == 0 ? N : form == 1 ? 1 : 2 * N, b_col = form == 0 ? 1 : form == 1 ? K : 2;
        std::vector<T> expected;
        for (std::int64_t j = 0; j < N; j += 64)
          for (std::int64_t k = 0; k < K; ++k)
            for (std::int64_t i = j; i < j + 64 && i < (N + 15) / 16 * 16; ++i)
              expected.push_back(i < N ? b[k * b_row + i * b_col] : T(0));
        const std::string name =
            "pack_b K " + std::to_string(K) + " N " + std::to_string(N) + " form " + std::to_string(form);
        if (packed_size(K, N) != static_cast<std::int64_t>(expected.size())) fail(name + ": packed_size");
        each_table([&](const Table& table) {
          const auto pack = [&](std::int64_t first, std::int64_t last, T* out) {
            kernels_of<T>(table).pack_b(K, N, b, b_row, b_col, first, last, out);
          };
          T* out = arrays.packed.array(packed_size(K, N));
          const std::int64_t panels = (N + 63) / 64;
          pack(0, panels, out);
          if (!std::equal(expected.begin(), expected.end(), out)) fail(where<T>(table, name));
          for (std::int64_t panel = 0; panel + 1 < panels; ++panel) {  // a panel that ends at the page
            T* const end = arrays.packed.array(0);
            std::fill(end - 64 * K, end, T(-1));
            pack(panel, panel + 1, end - (panel + 1) * 64 * K);
            if (!std::equal(end - 64 * K, end, expected.begin() + panel * 64 * K))
              fail(where<T>(table, name + ": panel ") + std::to_string(panel));
          }
        });
      }
}

template <class T>
void check_shapes(Arrays<T>& arrays) {
  const auto forms = [&](std::int64_t M, std::int64_t N, std::int64_t K) {
    for (Form form : {Form::kForward, Form::kInput, Form::kWeight, Form::kGeneral})
      check<T>(arrays, {M, N, K, form, random_bits() % (kAllOptions + 1)});
  };
  // Every height of a tile and every tail of a vector; every short K.
  constexpr std::int64_t kShort[] = {0, 1, 2, 3, 4, 5, 7, 8, 19};
  for (std::int64_t M = 0; M <= 26; ++M)
    for (std::int64_t N = 0; N <= 34; ++N) forms(M, N, kShort[random_bits() % std::size(kShort)]);
  for (std::int64_t M : {1, 2, 7, 13})
    for (std::int64_t N : {1, 3, 16, 33})
      for (std::int64_t K : kShort) forms(M, N, K);
  // Around powers of two, so around each width and number of panels.
  std::vector<std::int64_t> sizes;
  for (std::int64_t power : {32, 64, 128})
    for (std::int64_t d = -2; d <= 2; ++d) sizes.push_back(power + d);
  for (std::size_t i = 0; i < sizes.size(); ++i)
    for (std::size_t j = 0; j < sizes.size(); ++j)  // each size meets each form
      check<T>(arrays, {sizes[i], sizes[j], static_cast<std::int64_t>(random_bits() % 40),
                        static_cast<Form>((i + j) % 4), random_bits() % (kAllOptions + 1)});
  // Around one and two chunks; few columns, many rows, and the other way round.
  for (std::int64_t K : {255, 256, 257, 512, 513, 1025})
    for (std::int64_t M : {1, 2, 17, 130})
      for (std::int64_t N : {1, 2, 5, 16, 33, 100}) forms(M, N, K);
  for (std::int64_t N : {1, 2, 3, 7, 15})
    for (std::int64_t M : {510, 513, 1030})
      for (std::int64_t K : {3, 40, 300}) forms(M, N, K), forms(N, M, K);
  // A packed: a last block of columns narrower than a tile, and more rows than are packed at once.
  check<T>(arrays, {600, 530, 300, Form::kWeight, kBias | kFinish});
  check<T>(arrays, {2100, 266, 20, Form::kWeight, kRelu | kFinish | kWide});
  // Every combination of options, with one chunk and several, small and in blocks.
  for (unsigned options = 0; options <= kAllOptions; ++options)
    for (Form form : {Form::kForward, Form::kInput, Form::kWeight, Form::kGeneral}) {
      check<T>(arrays, {7, 37, 20, form, options});
      check<T>(arrays, {70, 3, 520, form, options});
      check<T>(arrays, {26, 260, 270, form, options});
    }
}

// A few columns of a wide B: the detour along rows then packs an A, and must have said how much scratch that takes.
template <class T>
void check_few_of_many_columns(Arrays<T>& arrays) {
  for (std::int64_t K : {63, 70, 99}) {
    Problem<T> problem(arrays, {128, 512, K, Form::kWeight, kBias});
    problem.p.N = 7;
    const std::vector<T> expected = problem(kernels_of<T>(reference_table()), false);
    each_table([&](const Table& table) {
      if (is_reference(table)) return;
      compare(table, "7 of 512 columns, K " + std::to_string(K), K, problem(kernels_of<T>(table), false), expected);
    });
  }
}

template <class T>
void check_nan(Arrays<T>& arrays) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for (std::int64_t N : {1, 3, 20}) {
    Problem<T> problem(arrays, {40, N, 30, Form::kWeight, kRelu | kBias});
    const_cast<T*>(problem.p.a)[5] = nan;  // row 5, k = 0
    each_table([&](const Table& table) {
      const std::vector<T> got = problem(kernels_of<T>(table), false);
      for (std::int64_t i = 0; i < 40 * N; ++i)
        if (std::isnan(got[static_cast<std::size_t>(i)]) != (i / N == 5))
          return fail(where<T>(table, "a NaN of row 5 does not reach it alone through relu, N ") + std::to_string(N));
    });
  }
}

// A part of the rows or of the columns computed alone has the bits that it has in the whole.
template <class T>
void check_parts(Arrays<T>& arrays) {
  for (Form form : {Form::kForward, Form::kInput, Form::kWeight})
    for (std::int64_t N : {1, 4, 50, 260}) {
      const std::int64_t M = 135, K = 300;
      Problem<T> problem(arrays, {M, N, K, form, kBias});
      each_table([&](const Table& table) {
        if (is_reference(table)) return;
        const Kernels<T>& kernels = kernels_of<T>(table);
        const std::vector<T> whole = problem(kernels, false);
        std::vector<T> scratch(static_cast<std::size_t>(kernels.product_scratch(M, N, K)));
        for (std::int64_t rows : {1, 2, 31})
          for (std::int64_t columns : {std::int64_t{1}, (N + 1) / 2, N}) {
            std::vector<T> c = problem.old_c;
            for (std::int64_t i = 0; i < M; i += rows)
              for (std::int64_t j = 0; j < N; j += columns) {
                Product<T> p = problem.p;
                p.M = std::min(rows, M - i);
                p.N = std::min(columns, N - j);
                p.a += i * p.a_row;
                p.b += j * p.b_col;
                p.bias += j;
                p.c = c.data() + i * p.ldc + j;
                kernels.product(p, scratch.data());
              }
            if (std::memcmp(c.data(), whole.data(), c.size() * sizeof(T)) != 0)
              fail(where<T>(table, kFormNames[static_cast<int>(form)]) + ", N " + std::to_string(N) + ": parts of " +
                   std::to_string(rows) + " x " + std::to_string(columns) + " differ from the whole");
          }
        // The same with B packed, in parts of whole panels; the last one ends with B.
        const Problem<T> packed = with_packed_b(kernels, problem);
        for (std::int64_t rows : {1, 2, 31})
          for (std::int64_t columns : {kPanel, 3 * kPanel}) {
            std::vector<T> c = problem.old_c;
            for (std::int64_t i = 0; i < M; i += rows)
              for (std::int64_t j = 0; j < N; j += columns) {
                Product<T> p = packed.p;
                p.M = std::min(rows, M - i);
                p.N = std::min(columns, N - j);
                p.a += i * p.a_row;
                p.b += j * K;
                p.bias += j;
                p.c = c.data() + i * p.ldc + j;
                kernels.product(p, scratch.data());
              }
            if (std::memcmp(c.data(), whole.data(), c.size() * sizeof(T)) != 0)
              fail(where<T>(table, kFormNames[static_cast<int>(form)]) + ", B packed, N " + std::to_string(N) +
                   ": parts of " + std::to_string(rows) + " x " + std::to_string(columns) + " differ from the whole");
          }
      });
    }
}

// Large products: C t = A (B t) for a random t. All numbers are small integers, so every sum is exact and so is the
// check.
template <class T>
void check_large(Arrays<T>& arrays) {
  for (const Case& s : {Case{1030, 300, 530, Form::kForward, kWide}, Case{1030, 260, 300, Form::kInput, 0},
                        Case{1100, 520, 270, Form::kWeight, kBias}, Case{512, 512, 512, Form::kWeight, 0},
                        Case{600, 700, 600, Form::kForward, kBias}, Case{600, 700, 600, Form::kWeight, kBias},
                        Case{200, 1100, 300, Form::kInput, kBias}}) {
    Problem<T> problem(arrays, s, true);
    const Product<T>& p = problem.p;
    std::vector<double> t, b_t(static_cast<std::size_t>(s.K)), expected;
    for (std::int64_t j = 0; j < s.N; ++j) t.push_back(static_cast<double>(random_bits() % 1000));
    for (std::int64_t k = 0; k < s.K; ++k)
      for (std::int64_t j = 0; j < s.N; ++j) b_t[k] += p.b[k * p.b_row + j * p.b_col] * t[j];
    for (std::int64_t i = 0; i < s.M; ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k < s.K; ++k) sum += p.a[i * p.a_row + k * p.a_col] * b_t[k];
      for (std::int64_t j = 0; j < s.N; ++j) sum += (p.bias ? p.bias[j] : 0) * t[j];
      expected.push_back(sum);
    }
    each_table([&](const Table& table) {
      if (is_reference(table)) return;
      const Kernels<T>& kernels = kernels_of<T>(table);
      for (const bool packed : {false, true}) {
        const std::vector<T> c = (packed ? with_packed_b(kernels, problem) : problem)(kernels, false);
        for (std::int64_t i = 0; i < s.M; ++i) {
          double sum = 0;
          for (std::int64_t j = 0; j < s.N; ++j) sum += c[i * p.ldc + j] * t[j];
          if (sum != expected[i])
            return fail(where<T>(table, s.name()) + (packed ? ", B packed" : "") + ": row " + std::to_string(i) +
                        " is wrong");
        }
      }
    });
  }
}

template <class T>
void check_column_sums(Arrays<T>& arrays) {
  for (std::int64_t M : {0, 1, 2, 31, 255, 256, 257, 513, 1025})
    for (std::int64_t N : {0, 1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 100, 260}) {
      const std::int64_t ldx = N + M % 2, size = M == 0 ? 0 : (M - 1) * ldx + N;
      T *x = arrays.a.array(size), *out = arrays.c.array(N);
      arrays.fill(x, size, false);
      const auto run = [&](const Table& table) {
        std::fill_n(out, N, T(1));  // which it must not add to
        kernels_of<T>(table).column_sum(M, N, x, ldx, out);
        return copy(out, N);
      };
      const std::vector<T> expected = run(reference_table());
      each_table([&](const Table& table) {
        if (is_reference(table)) return;
        compare(table, "column_sum M " + std::to_string(M) + " N " + std::to_string(N), M, run(table), expected);
      });
    }
}

// What the reference itself must be: two chunks and a bias by hand, in the order of the contract.
template <class T>
void check_reference() {
  const std::int64_t K = kChunk + 2;
  std::vector<T> a(K, T(1)), b(K, std::numeric_limits<T>::epsilon() / 2);
  b[0] = 1;  // 1, then eps / 2 each: lost one by one in the first chunk, kept as eps from the second
  T c = 4, bias = -1;
  Product<T> p{1, 1, K, a.data(), K, 1, b.data(), 1, 1, &c, 1};
  reference_table();
  kernels_of<T>(reference_table()).product(p, nullptr);
  if (c != 1 + std::numeric_limits<T>::epsilon()) fail("reference: chunks");
  bias = -2;
  p.bias = &bias;
  kernels_of<T>(reference_table()).product(p, nullptr);
  if (c != std::numeric_limits<T>::epsilon() - 1) fail("reference: bias");
  p.relu = true;
  kernels_of<T>(reference_table()).product(p, nullptr);
  if (c != 0) fail("reference: relu");
}

template <class T>
void check_all() {
  Arrays<T> arrays;
  check_reference<T>();
  check_packing(arrays);
  check_shapes(arrays);
  check_few_of_many_columns(arrays);
  check_nan(arrays);
  check_parts(arrays);
  check_large(arrays);
  check_column_sums(arrays);
}

}  // namespace

int main() {
  check_all<float>();
  check_all<double>();
  return report();
}
