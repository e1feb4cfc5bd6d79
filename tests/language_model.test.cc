// The stored reference of stories260K: ids, logits, log-likelihood (public data).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numeric>

#include "tandem/base/config.h"
#include "tandem/data/tokenizer.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/llama2.h"
#include "tandem/ir/op.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int64_t>;

fs::path folder() {
  if (!std::getenv("TANDEM_DATA")) ::setenv("TANDEM_DATA", TANDEM_SOURCE_DIR "/../shared/data", 0);
  return fs::path(std::getenv("TANDEM_DATA")) / "tiny_lm";
}
#define NEED_DATA()                                                                          \
  do {                                                                                       \
    std::error_code ec;                                                                      \
    if (!fs::is_directory(folder(), ec)) {                                                   \
      if (std::getenv("CI")) FAIL() << "tiny_lm is missing: set TANDEM_DATA";                \
      GTEST_SKIP() << "tiny_lm is missing: set TANDEM_DATA to the folder that holds tiny_lm/"; \
    }                                                                                        \
  } while (false)

Tensor row(const Ids& ids) { return Tensor::of<std::int64_t>({1, static_cast<std::int64_t>(ids.size())}, ids); }

// A run that goes on: the cache between the calls.
struct Talk {
  ir::Graph g = ir::read_llama2(folder() / "stories260K.bin", {.cache = true});
  std::vector<Tensor> cache;
  Talk() {
    for (std::size_t i = 1; i < g.inputs.size(); ++i) {
      Shape s;
      for (const ir::Dim& d : *g.values[static_cast<std::size_t>(g.inputs[i])].type.dims) s.push_back(d.known() ? d.n : d.symbol == "past" ? 0 : 1);
      cache.emplace_back(DType::f32, s);
    }
  }
  Tensor operator()(const Ids& ids) {
    std::vector<Tensor> in{row(ids)};
    in.insert(in.end(), cache.begin(), cache.end());
    std::map<std::string, Shape> shapes;
    for (std::size_t i = 0; i < in.size(); ++i) shapes[g.values[static_cast<std::size_t>(g.inputs[i])].name] = in[i].shape();
    std::vector<Tensor> out = ir::evaluate_float(ir::bind_inputs(g, shapes), in);
    cache.assign(out.begin() + 1, out.end());
    return out[0];
  }
};

TEST(LanguageModel, StoredReference) {
  NEED_DATA();
  const Config golden = Config::read(folder() / "stories260K_golden.json");
  const data::Tokenizer tokens = data::Tokenizer::read(folder() / "tok512.bin", 512);
  const Ids prompt = golden.at("prompt_ids").list<std::int64_t>();
  EXPECT_EQ(tokens.encode(golden.required<std::string>("prompt")), prompt);
  EXPECT_EQ(tokens.encode(golden.required<std::string>("nll_text")), golden.at("nll_ids").list<std::int64_t>());

  // The prompt at once, then greedily one token at a time.
  Talk talk;
  Tensor y = talk(prompt);
  const std::int64_t vocab = y.shape()[2];
  const auto last = [&](std::int64_t k) { return y.at(y.size() - vocab + k); };
  Ids order(static_cast<std::size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return last(a) > last(b); });
  std::size_t rank = 0;
  for (const Config& top : golden.at("logits_after_prompt_top5").items()) {
    EXPECT_EQ(order[rank], top.items()[0].as<std::int64_t>());
    EXPECT_NEAR(last(order[rank]), top.items()[1].as<double>(), 5e-5) << "the reference states five digits";
    ++rank;
  }
  const Ids want = golden.at("greedy_ids").list<std::int64_t>();
  Ids said = prompt, next;
  while (next.size() < want.size()) {
    std::int64_t best = 0;
    for (std::int64_t k = 1; k < vocab; ++k)
      if (last(k) > last(best)) best = k;
    next.push_back(best);
    y = talk({best});
  }
  EXPECT_EQ(next, want);
  said.insert(said.end(), next.begin(), next.end());
  EXPECT_EQ(tokens.decode(said).substr(0, 60), "Once upon a time, there was a little girl named Lily. She lo");

  // The mean negative log-likelihood of a text, read at once without a cache.
  const Ids text = golden.at("nll_ids").list<std::int64_t>();
  const ir::Graph whole = ir::bind_inputs(ir::read_llama2(folder() / "stories260K.bin"), {{"ids", {1, static_cast<std::int64_t>(text.size())}}});
  const Tensor z = ir::evaluate_float(whole, {row(text)})[0];
  double nll = 0;
  for (std::size_t t = 0; t + 1 < text.size(); ++t) {
    double sum = 0;
    const auto at = [&](std::int64_t k) { return z.at(static_cast<std::int64_t>(t) * vocab + k); };
    for (std::int64_t k = 0; k < vocab; ++k) sum += std::exp(at(k));
    nll += std::log(sum) - at(text[t + 1]);
  }
  EXPECT_NEAR(nll / static_cast<double>(text.size() - 1), golden.required<double>("mean_nll_nats_per_token"), 5e-6);
}

}  // namespace
}  // namespace tandem
