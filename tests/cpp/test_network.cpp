// A network under several threads: callers that predict while others train and write its parameters, the same bits on
// any number of threads, and calls that allocate nothing. ThreadSanitizer runs this too.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "cpu/network.h"
#include "kernels_test.h"

using namespace ranvier;
using namespace ranvier::cpu;

// Of the whole program: operator new is every container's, aligned_alloc Buffer's. (Inlined, a new that GCC sees and a
// free in its delete look like a mismatch to it.)
static std::atomic<int> allocations = 0;

[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes);
}
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (void* p = operator new(bytes, std::nothrow)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

extern "C" void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  ++allocations;
  void* p = nullptr;
  return posix_memalign(&p, alignment, bytes) == 0 ? p : nullptr;
}

namespace {

using Widths = std::vector<std::int64_t>;
using Floats = std::vector<float>;

HostArray host(const Floats& values, std::int64_t rows) {
  return {reinterpret_cast<const std::byte*>(values.data()),
          Element::f32,
          rows,
          static_cast<std::int64_t>(values.size()) / rows,
          {}};
}

bool same(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Batch {
  std::int64_t rows;
  Floats x, y;
  Batch(const Widths& widths, std::int64_t n)
      : rows(n), x(uniform<float>(n * widths.front(), -1, 1)), y(uniform<float>(n * widths.back(), -1, 1)) {}
};

// Dense layers with gelu between them, mean squared error, Adam.
class Model {
 public:
  Model(const Widths& widths, Precision precision)
      : outputs_(widths.back()), store(make_store(widths)), network_(all_of(store), 0) {
    network_.set_graph(Purpose::infer, graph(widths, false));
    network_.set_graph(Purpose::train, graph(widths, true));
    const auto adam = std::make_shared<OptimizerSettings>();
    adam->rule = Optimizer::adam, adam->lr = 1e-3;
    network_.set_optimizer(adam, 1);
    network_.set_precision(precision);
  }

  // The parameters one after the other, padding included.
  Floats parameters() const {
    Floats all;
    for (std::size_t i = 0; i < store->size(); ++i) {
      const auto* from = reinterpret_cast<const float*>(store->data() + store->offset(i));
      all.insert(all.end(), from, from + store->bytes(i) / 4);
    }
    return all;
  }
  void set_parameters(const Floats& all) const {
    std::memcpy(store->data(), all.data(), all.size() * sizeof(float));
    store->touch();
  }
  void predict(const Batch& batch, std::int64_t rows, Floats& y) {
    y.resize(static_cast<std::size_t>(rows * outputs_));
    const HostArray x[] = {host(batch.x, batch.rows)};
    std::byte* const to[] = {reinterpret_cast<std::byte*>(y.data())};
    network_.predict({network_.interface(Purpose::infer), x, {}, {}}, rows, rows, to);
  }
  Floats predict(const Batch& batch, std::int64_t rows) {
    Floats y;
    predict(batch, rows, y);
    return y;
  }
  double train(const Batch& batch, const std::int64_t* order = nullptr) {
    const HostArray x[] = {host(batch.x, batch.rows)}, y[] = {host(batch.y, batch.rows)};
    return network_.train({network_.interface(Purpose::train), x, y, {}}, 0, batch.rows, order, {}, false);
  }
  int threads(Purpose purpose, std::int64_t rows) { return network_.program(purpose, rows)->threads(rows); }

 private:
  static std::shared_ptr<Store> make_store(const Widths& widths) {
    std::vector<Dims> shapes;
    for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
      shapes.push_back({widths[i], widths[i + 1]});
      shapes.push_back({widths[i + 1]});
    }
    auto made = std::make_shared<Store>(DType::f32, shapes);
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const double limit = 1 / std::sqrt(static_cast<double>(widths[i / 2]));
      const Floats values = uniform<float>(Type{false, shapes[i]}.count(), -limit, limit);
      made->write(i, host(values, 1));
    }
    return made;
  }
  static std::vector<Parameter> all_of(const std::shared_ptr<Store>& store) {
    std::vector<Parameter> list;
    for (std::size_t i = 0; i < store->size(); ++i) list.push_back({"p" + std::to_string(i), store, i});
    return list;
  }
  static Graph graph(const Widths& widths, bool loss) {
    Graph g;
    const auto op = [&](const char* name, std::vector<ValueId> in) { return g.add(name, std::move(in), {}, "")[0]; };
    const auto parameter = [&](Dims dims) {
      return g.leaf(Leaf::parameter, {false, std::move(dims)}, "p", g.count(Leaf::parameter));
    };
    ValueId y = g.leaf(Leaf::x, {true, {widths[0]}}, "x", 0);
    for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
      if (i > 0) y = op("gelu", {y});
      const ValueId w = parameter({widths[i], widths[i + 1]});
      y = op("dense", {y, w, parameter({widths[i + 1]})});
    }
    g.outputs = {y};
    if (loss) {
      const ValueId target = g.leaf(Leaf::target, g.type(y), "y", 0), weight = g.leaf(Leaf::weight, {true, {}}, "w", 0);
      g.loss = op("weighted_sum", {op("mse", {y, target}), op("row_scale", {weight})});
    }
    return g;
  }

  std::int64_t outputs_;

 public:
  const std::shared_ptr<Store> store;

 private:
  Network network_;
};

// 64 rows pay for two threads.
const Widths kWidths{130, 200, 70};
constexpr std::int64_t kRows = 64;
constexpr std::int64_t kRowCounts[] = {1, kRows};

void expect_threads(Model& model, Purpose purpose, std::int64_t rows, int wanted) {
  expect(model.threads(purpose, rows) >= wanted, "the work is too small for " + std::to_string(wanted) + " threads");
}

// Runs `change` so many times on a thread each, and beside them predictions of 1, 64 and 64 rows, each of which must be
// good, until they are done.
void predict_beside(Model& model, const Batch& batch, int times, const std::vector<std::function<void(int)>>& changes,
                    const std::function<bool(const Floats&)>& good, const std::string& what) {
  std::atomic<int> changing = static_cast<int>(changes.size());
  std::atomic<bool> all_good = true;
  std::vector<std::thread> threads;
  for (const auto& change : changes) {
    threads.emplace_back([&] {
      for (int i = 0; i < times; ++i) change(i);
      --changing;
    });
  }
  for (const std::int64_t rows : {std::int64_t{1}, kRows, kRows}) {
    threads.emplace_back([&, rows] {
      Floats y;
      do {
        model.predict(batch, rows, y);
        if (!good(y)) all_good = false;
        // Readers that always overlap would keep every writer out.
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      } while (changing > 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect(all_good, what);
}

// What a network of its own, which never had other parameters, predicts.
Floats predicted_afresh(const Floats& parameters, Precision precision, const Batch& batch, std::int64_t rows) {
  Model model(kWidths, precision);
  model.set_parameters(parameters);
  return model.predict(batch, rows);
}

void several_callers(Precision precision, const std::string& name) {
  set_num_threads(2);
  Model model(kWidths, precision);
  const Batch batch(kWidths, kRows);
  expect_threads(model, Purpose::infer, kRows, 2);
  expect_threads(model, Purpose::train, kRows, 2);
  const Floats first = model.parameters(), bias = uniform<float>(kWidths[1], -1, 1);
  const auto weights = [&](double limit) { return uniform<float>(kWidths[0] * kWidths[1], -limit, limit); };

  const Floats written = weights(1);
  predict_beside(
      model, batch, 20,
      {[&](int) { model.train(batch); },
       [&](int) { model.store->write(0, host(written, kWidths[0])), model.store->write(1, host(bias, 1)); }},
      [](const Floats& y) { return std::all_of(y.begin(), y.end(), [](float v) { return std::isfinite(v); }); },
      name + ": a prediction beside training is not finite");

  // Packed weights are those of one version, whole: every prediction is that of the one or of the other.
  const Floats either[] = {weights(1), weights(0.1)};
  std::vector<Floats> expected;
  for (const Floats& w : either) {
    model.store->write(0, host(w, kWidths[0]));
    for (const std::int64_t rows : kRowCounts)
      expected.push_back(predicted_afresh(model.parameters(), precision, batch, rows));
  }
  predict_beside(
      model, batch, 40, {[&](int i) { model.store->write(0, host(either[i % 2], kWidths[0])); }},
      [&](const Floats& y) {
        return std::any_of(expected.begin(), expected.end(), [&](const Floats& e) { return same(y, e); });
      },
      name + ": a prediction beside writing is of no version");

  for (int version = 0; version < 3; ++version) {
    for (int again = 0; again < 3; ++again) {
      for (const std::int64_t rows : kRowCounts) {
        expect(same(model.predict(batch, rows), predicted_afresh(model.parameters(), precision, batch, rows)),
               name + ": predictions of old parameters");
      }
    }
    version == 0 ? static_cast<void>(model.train(batch)) : model.set_parameters(first);
  }
}

// Losses, parameters and predictions of a short training.
void same_bits(const Widths& widths, std::int64_t rows, Precision precision, const std::string& name) {
  const Batch batch(widths, rows);
  const Floats first = Model(widths, precision).parameters();
  Floats expected;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    Model model(widths, precision);
    model.set_parameters(first);
    expect_threads(model, Purpose::train, rows, threads);
    Floats all;
    for (int step = 0; step < 3; ++step) {
      all.push_back(static_cast<float>(model.train(batch)));
      for (int again = 0; again < 2; ++again) {  // unpacked, then packed
        const Floats y = model.predict(batch, rows);
        all.insert(all.end(), y.begin(), y.end());
      }
    }
    const Floats parameters = model.parameters();
    expect(!same(parameters, first), name + ": training changes nothing");
    all.insert(all.end(), parameters.begin(), parameters.end());
    if (threads == 1) expected = all;
    expect(same(all, expected), name + ": " + std::to_string(widths.front()) + " to " + std::to_string(widths.back()) +
                                    ", " + std::to_string(threads) + " threads: other bits than one thread's");
  }
}

void nothing_allocated(Precision precision, const std::string& name) {
  set_num_threads(2);
  Model model(kWidths, precision);
  const Batch batch(kWidths, kRows);
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < kRows; ++i) order.push_back((i * 5 + 3) % kRows);
  Floats one, many;
  int counted = 0;
  for (int round = 0; round < 3; ++round) {
    const int before = allocations;
    model.train(batch);
    model.train(batch, order.data());
    for (int again = 0; again < 2; ++again) model.predict(batch, kRows, many), model.predict(batch, 1, one);
    counted = allocations - before;
    if (round == 0) expect(counted > 0, "the first calls' allocations are not counted");
  }
  expect(counted == 0, name + ": warm calls allocate " + std::to_string(counted) + " times");
}

// How many of the runs of a whole trial and what follows it, of which each takes so long, go on the team.
int team_runs(TeamTrial& trial, int runs, std::chrono::microseconds alone, std::chrono::microseconds team) {
  int on_team = 0;
  for (int i = 0; i < runs; ++i) {
    const TeamTrial::Turn turn = trial.next();
    on_team += turn.team;
    if (turn.timed) trial.add(turn, TeamTrial::Clock::now() - (turn.team ? team : alone), 1e6);
  }
  return on_team;
}

void team_where_it_pays() {
  using std::chrono::microseconds;
  TeamTrial trial;
  constexpr int kRuns = 2048, kTried = 40, kAlone = 8;
  expect(team_runs(trial, kRuns, microseconds(1000), microseconds(2000)) == kTried, "the team was slower");
  expect(team_runs(trial, kRuns, microseconds(2000), microseconds(1000)) == kRuns - kAlone, "the team was faster");
  expect(team_runs(trial, kRuns, microseconds(1000), microseconds(2000)) == kTried, "the team was slower again");
  expect(team_runs(trial, kRuns, microseconds(1000), microseconds(1050)) == kRuns - kAlone, "the team was away");
}

}  // namespace

int main() {
  team_where_it_pays();
  for (std::size_t p = 0; p < kPrecisionNames.size(); ++p) {
    const auto precision = static_cast<Precision>(p);
    const std::string name(kPrecisionNames[p]);
    several_callers(precision, name);
    same_bits(kWidths, 100, precision, name);
    same_bits({1024, 1024}, 8, precision, name);  // so large that two threads pack its weights
    same_bits({7, 5}, 40001, precision, name);    // so small that the threads share the batch's chunks
    same_bits({32, 32}, 3000, precision, name);   // likewise on three threads, but not where a unit for bfloat16 pays
    nothing_allocated(precision, name);
  }
  return report();
}
