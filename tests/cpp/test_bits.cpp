// The same bits on every machine: each family of kernels, on data made by integer arithmetic, gives the one number that
// stands here, whatever the instruction set with fma. Float only; the sign of a NaN is outside the promise, and so are
// results that round at the smallest normal number, which the data avoids.
//
// Where the arithmetic is meant to change, put the number printed into the table at the end, and say so in the change.
#include <bit>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "core/philox.h"
#include "core/team.h"
#include "kernels_test.h"

using namespace ranvier;
using namespace ranvier::cpu;

namespace {

// FNV-1a over 32-bit words.
class Hash {
 public:
  void add(std::uint32_t word) { value_ = (value_ ^ word) * 0x100000001b3; }
  void add(float x) { add(std::isnan(x) ? 0x7fc00000 : std::bit_cast<std::uint32_t>(x)); }
  void add(double x) {
    add(static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(x)));
    add(static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(x) >> 32));
  }
  void add(const std::vector<float>& values) {
    for (const float x : values) add(x);
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325;
};

using Values = std::vector<float>;
Values zeros(std::int64_t n) { return Values(static_cast<std::size_t>(n)); }

class Data {
 public:
  std::uint32_t word() { return philox({0, 0}, {counter_++, 0, 0, 0})[0]; }
  // In [0, 1).
  Values probabilities(std::int64_t n) {
    Values x = zeros(n);
    for (float& v : x) v = static_cast<float>(word() >> 8) * 0x1p-24f;
    return x;
  }
  // Mostly in [-range, range); one in eight a zero of either sign, 2^20 times as large or 2^-20 times.
  Values operator()(std::int64_t n, float range = 1) {
    Values x = probabilities(n);
    for (float& v : x) {
      v = range * (2 * v - 1);
      constexpr float kFactors[] = {0, -0.0f, 0x1p20f, 0x1p-20f};
      if (const std::uint32_t w = word() % 32; w < 4) v *= kFactors[w];
    }
    return x;
  }

 private:
  std::uint32_t counter_ = 0;
};

using K = Kernels<float>;

enum class Form { kForward, kInput, kWeight };  // Y = X W, dX = dY W^T, dW = X^T dY

void one_product(const K& kernels, Data& data, Hash& hash, std::int64_t M, std::int64_t N, std::int64_t depth,
                 Form form, std::uint32_t options) {
  const Values a = data(M * depth), b = data(depth * N), bias = data(N);
  Values c = zeros(M * N), scratch = zeros(kernels.product_scratch(M, N, depth));
  Product<float> p{M, N, depth, a.data(), depth, 1, b.data(), N, 1, c.data(), N};
  if (form == Form::kInput) p.b_row = 1, p.b_col = depth;
  if (form == Form::kWeight) p.a_row = 1, p.a_col = M;
  if (options & 1) p.bias = bias.data();
  p.relu = options & 2;
  kernels.product(p, scratch.data());
  hash.add(c);
}

template <Form form>
void products(const K& kernels, Data& data, Hash& hash) {
  constexpr std::int64_t kDepths[] = {1, 255, 5, 600, 17, 256, 3, 257, 64};
  std::uint32_t i = 0;
  for (const std::int64_t M : {1, 2, 3, 5, 7, 12, 25, 33})
    for (const std::int64_t N : {1, 2, 3, 4, 7, 9, 10, 16, 23, 31, 33, 49, 65}) {
      one_product(kernels, data, hash, M, N, kDepths[i % std::size(kDepths)], form, i % 4);
      ++i;
    }
  one_product(kernels, data, hash, 70, 301, 300, form, 1);
  one_product(kernels, data, hash, 1030, 5, 40, form, 3);
}

void column_sums(const K& kernels, Data& data, Hash& hash) {
  for (const std::int64_t M : {1, 2, 255, 256, 257, 700})
    for (const std::int64_t N : {1, 3, 4, 10, 33, 300}) {
      const Values x = data(M * N);
      Values out = zeros(N);
      kernels.column_sum(M, N, x.data(), N, out.data());
      hash.add(out);
    }
}

void unary(const K& kernels, Data& data, Hash& hash) {
  for (const K::UnaryKernel f : kernels.unary)
    for (const float range : {1.0f, 10.0f, 120.0f})
      for (const std::int64_t n : {1, 2, 3, 7, 15, 1001}) {
        const Values x = data(n, range);
        Values y = zeros(n);
        f(n, x.data(), y.data(), 0.3f);
        hash.add(y);
      }
}

void unary_backward(const K& kernels, Data& data, Hash& hash) {
  for (const K::UnaryBackwardKernel f : kernels.unary_backward)
    for (const float range : {1.0f, 10.0f, 120.0f})
      for (const std::int64_t n : {1, 2, 3, 7, 15, 1001}) {
        const Values dy = data(n), saved = data(n, range);
        Values dx = zeros(n);
        f(n, dy.data(), saved.data(), dx.data(), 0.3f);
        hash.add(dx);
      }
}

void binary(const K& kernels, Data& data, Hash& hash) {
  for (const K::BinaryKernel f : kernels.binary)
    for (const std::int64_t n : {1, 2, 3, 7, 15, 1001})
      for (const bool whole : {false, true}) {
        const Values a = data(n, 5), b = data(n, 5);
        Values out = zeros(n);
        f(n, a.data(), 1, b.data(), whole, out.data());
        hash.add(out);
        f(n, a.data(), whole, b.data(), 1, out.data());
        hash.add(out);
      }
  for (const std::int64_t n : {1, 2, 3, 7, 15, 1001}) {
    const Values condition = data(n), a = data(n), b = data(n);
    Values out = zeros(n);
    kernels.where(n, condition.data(), 1, a.data(), 1, b.data(), n % 2, out.data());
    hash.add(out);
  }
}

void dropout(const K& kernels, Data& data, Hash& hash) {
  for (const std::int64_t n : {1, 2, 3, 7, 15, 1001})
    for (const std::int64_t first : {0, 1, 6})
      for (const double rate : {0.0, 0.3, 0.5}) {
        const Values x = data(n);
        Values y = zeros(n);
        kernels.dropout(n, first, x.data(), y.data(), rate, {0x123456789abcdef, 3, static_cast<std::uint32_t>(n)});
        hash.add(y);
      }
}

void sums(const K& kernels, Data& data, Hash& hash) {
  for (const std::int64_t n : counts()) {
    const Values x = data(n), y = data(n);
    hash.add(kernels.sum(n, x.data()));
    hash.add(kernels.dot(n, x.data(), y.data()));
    hash.add(kernels.sum_of_squares(n, x.data()));
  }
}

constexpr std::int64_t kRows = 5, kRowLengths[] = {1, 2, 3, 5, 10, 15, 16, 17, 33, 100, 4099};

void softmax(const K& kernels, Data& data, Hash& hash) {
  for (const std::int64_t n : kRowLengths) {
    const Values x = data(kRows * n, 5), dy = data(kRows * n);
    Values y = zeros(kRows * n), dx = y;
    kernels.softmax(kRows, n, x.data(), y.data());
    kernels.softmax_backward(kRows, n, dy.data(), y.data(), dx.data());
    hash.add(y), hash.add(dx);
    kernels.log_softmax(kRows, n, x.data(), y.data());
    kernels.log_softmax_backward(kRows, n, dy.data(), y.data(), dx.data());
    hash.add(y), hash.add(dx);
  }
}

void row_losses(const K& kernels, Data& data, Hash& hash) {
  for (const K::RowLossKernel f : kernels.row_loss)
    for (const std::int64_t n : kRowLengths) {
      const bool probabilities =
          f == kernels.row_loss[static_cast<std::size_t>(RowLoss::binary_cross_entropy_probabilities)];
      const Values pred = probabilities ? data.probabilities(kRows * n) : data(kRows * n, 5);
      const Values target = data.probabilities(kRows * n), drow = data(kRows);
      Values loss = zeros(kRows), dpred = zeros(kRows * n);
      f(kRows, n, pred.data(), target.data(), drow.data(), 0.75f, loss.data(), dpred.data());
      hash.add(loss), hash.add(dpred);
    }
}

void cross_entropy(const K& kernels, Data& data, Hash& hash) {
  for (const std::int64_t n : kRowLengths)
    for (const bool labelled : {false, true})
      for (const bool weighted : {false, true})
        for (const float smoothing : {0.0f, 0.1f}) {
          const Values logits = data(kRows * n, 5), target = data.probabilities(kRows * n),
                       weight = data.probabilities(n), drow = data(kRows);
          std::vector<std::int32_t> labels;
          for (std::int64_t row = 0; row < kRows; ++row)
            labels.push_back(static_cast<std::int32_t>(data.word() % static_cast<std::uint32_t>(n)));
          Values loss = zeros(kRows), dlogits = zeros(kRows * n);
          kernels.cross_entropy(kRows,
                                {n, labelled ? labels.data() : nullptr, labelled ? nullptr : target.data(),
                                 weighted ? weight.data() : nullptr, smoothing},
                                logits.data(), drow.data(), loss.data(), dlogits.data());
          hash.add(loss), hash.add(dlogits);
        }
}

// Their coefficients come from double and pow: an ulp of a library's there is lost when they are rounded to float.
void optimizers(const K& kernels, Data& data, Hash& hash) {
  Update plain{.lr = 0.01}, all{.lr = 0.01,
                                .grad_scale = 0.5,
                                .clip_value = 0.7,
                                .weight_decay = 0.1,
                                .momentum = 0.9,
                                .dampening = 0.2,
                                .nesterov = true,
                                .lr_decay = 0.1};
  for (std::size_t rule = 0; rule < kOptimizerNames.size(); ++rule)
    for (const Update& settings : {plain, all})
      for (const std::int64_t n : {1, 2, 3, 7, 15, 1001}) {
        Values param = data(n), slot0 = zeros(n), slot1 = zeros(n), slot2 = zeros(n);
        float* const slots[] = {slot0.data(), slot1.data(), slot2.data()};
        Update update = settings;
        for (int step = 1; step <= 3; ++step) {
          update.set_step(static_cast<Optimizer>(rule), step);
          const Values grad = data(n);
          kernels.optimizer[rule](1, n, 0, update, grad.data(), param.data(), slots);
        }
        hash.add(param), hash.add(slot0), hash.add(slot1), hash.add(slot2);
      }
}

struct Family {
  const char* name;
  std::uint64_t bits;
  void (*run)(const K&, Data&, Hash&);
};
constexpr Family kFamilies[] = {
    {"products Y = X W", 0x3175ec6afb003727, products<Form::kForward>},
    {"products dX = dY W^T", 0x8b34f19d0406f4fe, products<Form::kInput>},
    {"products dW = X^T dY", 0xa52bc13788e07874, products<Form::kWeight>},
    {"column sums", 0xad29d297b30eaf89, column_sums},
    {"unary", 0x5d4e11719e630edc, unary},
    {"unary backward", 0xccb37951460e9cee, unary_backward},
    {"binary", 0x9d19d170fb8c626a, binary},
    {"dropout", 0x7c276e1e5b8de2c0, dropout},
    {"sums", 0xa8f827a680c637df, sums},
    {"softmax", 0xfaaabbb202a2a0bb, softmax},
    {"row losses", 0x534e13a7094595ce, row_losses},
    {"cross-entropy", 0xdf6753825313fb28, cross_entropy},
    {"optimizers", 0x434521d190b6af50, optimizers},
};

}  // namespace

int main() {
  const FlushSubnormals flush;  // as in every native call
  each_table([](const Table& table) {
    if (!has_fma(table)) return;
    for (const Family& family : kFamilies) {
      Data data;
      Hash hash;
      family.run(table.f32, data, hash);
      char text[80];
      std::snprintf(text, sizeof text, ": 0x%016" PRIx64 ", not 0x%016" PRIx64, hash.value(), family.bits);
      expect(hash.value() == family.bits, std::string(family.name) + " on " + table.isa + text);
    }
  });
  return report();
}
