#include "tandem/base/config.h"

#include <gtest/gtest.h>

#include <clocale>
#include <functional>

#include "tandem/base/nearest.h"
#include "tandem/base/rng.h"

namespace tandem {
namespace {

Error error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  return Error(Exit::done, "no error");
}

const char* kStudy = R"(# a study
name: digits
epochs: 20
rate: 1.5e-3
deep: true
layers:
  - width: 16
    kernel: [3, 3]
  - width: 32
empty:
)";

TEST(Config, ReadsTypedValuesWithPlaces) {
  const Config c = Config::parse(kStudy, "study.yaml");
  EXPECT_EQ(c.required<std::string>("name"), "digits");
  EXPECT_EQ(c.required<int>("epochs"), 20);
  EXPECT_EQ(c.required<double>("rate"), 1.5e-3);
  EXPECT_TRUE(c.required<bool>("deep"));
  EXPECT_EQ(c.optional_or<int>("missing", 7), 7);
  EXPECT_EQ(c.optional_or<int>("empty", 8), 8);
  const auto layers = c.at("layers").items();
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_EQ(layers[0].at("kernel").list<int>(), (std::vector<int>{3, 3}));
  EXPECT_EQ(layers[1].at("width").where(), "study.yaml:9");
  EXPECT_EQ(layers[1].at("width").path(), "layers[1].width");
  EXPECT_EQ(c.keys(), (std::vector<std::string>{"name", "epochs", "rate", "deep", "layers", "empty"}));
  c.only({"name", "epochs", "rate", "deep", "layers", "empty"});
}

TEST(Config, ErrorsNameNearestKeyAndLine) {
  const Config c = Config::parse(kStudy, "study.yaml");
  Error e = error_of([&] { c.only({"name", "epoch", "rate", "deep", "layers", "empty"}); });
  EXPECT_EQ(e.code(), Exit::bad_input);
  EXPECT_EQ(e.where(), "study.yaml:3");
  EXPECT_EQ(e.fix(), "did you mean 'epoch'?");
  e = error_of([&] { c.required<double>("rates"); });
  EXPECT_NE(e.fix().find("line 4"), std::string::npos);
  e = error_of([&] { c.at("layers").items()[1].required<int>("with"); });
  EXPECT_NE(e.message().find("layers[1]: the key 'with' is missing"), std::string::npos) << e.message();
  EXPECT_NE(e.fix().find("'width'"), std::string::npos);
  e = error_of([&] { c.integer("epochs", 1, 10); });
  EXPECT_EQ(e.expected(), "1 to 10");
  e = error_of([&] { c.choice("name", {"digit", "faces"}); });
  EXPECT_EQ(e.fix(), "did you mean 'digit'?");
  EXPECT_EQ(error_of([&] { c.required<int>("name"); }).where(), "study.yaml:2");
  EXPECT_EQ(error_of([&] { c.at("layers").at("x"); }).expected(), "a map of keys");
  EXPECT_EQ(error_of([&] { c.at("name").items(); }).expected(), "a list");
  EXPECT_EQ(error_of([&] { c.required<std::string>("layers"); }).expected(), "a text");
}

TEST(Config, RefusesWhatIsAmbiguousOrHostile) {
  const auto where = [](const char* text) {
    const Error e = error_of([&] { Config::parse(text, "f"); });
    return (e.code() == Exit::bad_input ? "" : "?") + e.where();
  };
  EXPECT_EQ(where("a: 1\nb: 2\na: 3\n"), "f:3");
  EXPECT_EQ(where("a: &x 1\nb: *x\n"), "f:2");
  EXPECT_EQ(where("a: 1\n---\nb: 2\n"), "f:2");
  EXPECT_EQ(error_of([] { Config::parse("a: !!python/object:os.system x"); }).code(), Exit::done);  // plain text to us
  EXPECT_EQ(where("a: !danger x\n"), "f:1");
  EXPECT_EQ(where("? [a, b]\n: 1\n"), "f:1");
  EXPECT_EQ(where("a: [1, 2\n"), "f:2");
  EXPECT_EQ(where("a: b: c\n"), "f:1");
  EXPECT_EQ(error_of([] { Config::parse(std::string(300, '[') + std::string(300, ']')); }).code(), Exit::limit);
  Limits few;
  few.nodes = 100;
  std::string many = "a: [";
  for (int i = 0; i < 100; ++i) many += "1, ";
  EXPECT_EQ(error_of([&] { Config::parse(many + "1]", "f", few); }).code(), Exit::limit);
}

TEST(Config, Scalars) {
  const auto v = [](const char* t) { return Config::parse(fmt::format("v: {}", t)).at("v"); };
  EXPECT_EQ(v("-9223372036854775808").as<std::int64_t>(), INT64_MIN);
  EXPECT_EQ(v("18446744073709551615").as<std::uint64_t>(), UINT64_MAX);
  EXPECT_EQ(v("0x1F").as<int>(), 31);
  EXPECT_EQ(v("+5").as<int>(), 5);
  EXPECT_EQ(v("'07'").as<std::string>(), "07");
  EXPECT_EQ(v("3").as<double>(), 3.0);
  for (const char* bad : {"9223372036854775808", "1.5", "1e3", "'5'", "5 MHz", "--5", "+-5", "", "0x"})
    EXPECT_EQ(error_of([&] { v(bad).as<std::int64_t>(); }).code(), Exit::bad_input) << bad;
  for (const char* bad : {"1,5", ".nan", "nan", "inf", "1e999", "'1.5'", "1.5x"})
    EXPECT_EQ(error_of([&] { v(bad).as<double>(); }).code(), Exit::bad_input) << bad;
  for (const char* bad : {"yes", "on", "1", "'true'"})
    EXPECT_EQ(error_of([&] { v(bad).as<bool>(); }).code(), Exit::bad_input) << bad;
  EXPECT_EQ(error_of([&] { v("2147483648").as<int>(); }).code(), Exit::bad_input);
  EXPECT_EQ(error_of([&] { v("-1").as<std::uint64_t>(); }).code(), Exit::bad_input);
}

TEST(Config, JsonIsYaml) {
  const Config c = Config::parse("{\n\t\"a\": [1, 2.5, \"x\\ny\\/\\u00e9\"],\n\t\"b\": {\"c\": null, \"d\": true}\n}\n");
  EXPECT_EQ(c.at("a").items()[2].as<std::string>(), "x\ny/é");
  EXPECT_TRUE(c.at("b").at("c").is_null());
  EXPECT_TRUE(c.at("b").required<bool>("d"));
  EXPECT_EQ(c.at("b").at("d").where(), "<text>:3");
}

TEST(Config, SetFromTheCommandLine) {
  const Config c = Config::parse(kStudy, "study.yaml");
  const Config d = c.with("layers.1.width", "64").with("new.deep.key", "[1, 2]").with("epochs", "3");
  EXPECT_EQ(d.at("layers").items()[1].required<int>("width"), 64);
  EXPECT_EQ(d.at("new").at("deep").at("key").list<int>(), (std::vector<int>{1, 2}));
  EXPECT_EQ(d.required<int>("epochs"), 3);
  EXPECT_EQ(c.required<int>("epochs"), 20);  // the original is untouched
  EXPECT_EQ(error_of([&] { c.with("layers.2.width", "1"); }).expected(), "0 to 1");
  EXPECT_EQ(error_of([&] { c.with("name.x", "1"); }).code(), Exit::bad_input);
  EXPECT_EQ(error_of([&] { c.with("a..b", "1"); }).code(), Exit::bad_input);
}

TEST(Config, EmptyFileIsAnEmptyMap) {
  for (const char* t : {"", "\n", "# only a remark\n", "---\n"}) {
    EXPECT_TRUE(Config::parse(t).is_map()) << t;
    EXPECT_EQ(Config::parse(t).size(), 0u);
  }
}

TEST(Config, LocaleChangesNothing) {
  const char* old = std::setlocale(LC_ALL, nullptr);
  const std::string before = old ? old : "C";
  if (!std::setlocale(LC_ALL, "de_DE.UTF-8")) GTEST_SKIP() << "no German locale on this machine";
  const double v = Config::parse("v: 1.5").required<double>("v");
  std::setlocale(LC_ALL, before.c_str());
  EXPECT_EQ(v, 1.5);
}

// Mutated text: an Error or a tree, never anything else; the same text always gives the same answer.
TEST(Config, RandomMutationsNeverEscape) {
  Rng r(1, "config");
  int good = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string t = kStudy;
    for (int k = 0; k < 3; ++k) {
      const auto p = static_cast<std::size_t>(r.range(0, static_cast<std::int64_t>(t.size()) - 1));
      if (r.chance(0.3)) t.erase(p, static_cast<std::size_t>(r.range(1, 5)));
      else t[p] = "\n :-[]{},&*!|>'\"%@`#?a1\t\0\xff"[r.range(0, 26)];
    }
    try {
      const Config c = Config::parse(t);
      ++good;
      for (const auto& [k, v] : c.is_map() ? c.entries() : std::vector<std::pair<std::string, Config>>{}) EXPECT_FALSE(v.where().empty()) << k;
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == Exit::bad_input || e.code() == Exit::limit) << e.full();
    }
  }
  EXPECT_GT(good, 300);
  EXPECT_LT(good, 2900);
}

// The recursion of the definition, without a table.
int slow_distance(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty()) return static_cast<int>(a.size() + b.size());
  const std::size_t n = a.size(), m = b.size();
  int d = std::min({slow_distance(a.substr(0, n - 1), b) + 1, slow_distance(a, b.substr(0, m - 1)) + 1,
                    slow_distance(a.substr(0, n - 1), b.substr(0, m - 1)) + (a[n - 1] != b[m - 1])});
  if (n > 1 && m > 1 && a[n - 1] == b[m - 2] && a[n - 2] == b[m - 1]) d = std::min(d, slow_distance(a.substr(0, n - 2), b.substr(0, m - 2)) + 1);
  return d;
}

TEST(Nearest, DistanceEqualsItsRecursion) {
  Rng r(2, "distance");
  for (int i = 0; i < 200; ++i) {
    std::string a, b;
    for (auto k = r.range(0, 6); k > 0; --k) a += static_cast<char>('a' + r.range(0, 2));
    for (auto k = r.range(0, 6); k > 0; --k) b += static_cast<char>('a' + r.range(0, 2));
    EXPECT_EQ(edit_distance(a, b), slow_distance(a, b)) << a << " " << b;
  }
}

TEST(Nearest, NamesWhatIsMeantAndNothingElse) {
  const std::vector<std::string> ops{"Conv", "MatMul", "Relu", "MaxPool"};
  EXPECT_EQ(nearest("conv", ops), "Conv");
  EXPECT_EQ(nearest("Matmull", ops), "MatMul");
  EXPECT_EQ(nearest("Reul", ops), "Relu");
  EXPECT_EQ(nearest("Conv2d", ops), "Conv");
  EXPECT_EQ(nearest("Einsum", ops), "");
  EXPECT_EQ(nearest("", ops), "");
  EXPECT_EQ(nearest(std::string(100000, 'x'), ops), "");
}

}  // namespace
}  // namespace tandem
