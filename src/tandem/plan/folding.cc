#include "tandem/plan/folding.h"

#include <nlohmann/json.hpp>

#include "tandem/plan/stage_graph.h"

namespace tandem::plan {
namespace {
constexpr std::int64_t kDeepest = std::int64_t{1} << 30;

std::string multipliers_text(const Fold& f) {
  if (f.multipliers == Multipliers::automatic) return "";
  return fmt::format(", \"multipliers\": \"{}\"{}", to_string(f.multipliers), f.multipliers == Multipliers::packed ? fmt::format(", \"per_dsp\": {}", f.per_dsp) : "");
}
}  // namespace

std::string_view to_string(Multipliers m) {
  switch (m) {
    case Multipliers::automatic: return "automatic";
    case Multipliers::plain: return "plain";
    case Multipliers::logic: return "logic";
    case Multipliers::packed: return "packed";
    case Multipliers::constant: return "constant";
  }
  return "";
}

Folding smallest_folding(const StageGraph& g) {
  Folding f;
  f.of.resize(g.layers.size());
  return f;
}

void check_folding(const StageGraph& g, const Folding& f) {
  if (f.of.size() != g.layers.size())
    throw bad_input("a folding of {} layers for a design of {}", f.of.size(), g.layers.size());
  if (f.interval < 0) throw bad_input("\"interval\" is {}", f.interval).expected("cycles a frame, 1 or more");
  for (std::size_t i = 0; i < f.of.size(); ++i) {
    const Layer& l = g.layers[i];
    const auto& [pe, simd, requantiser, logic, multipliers, per_dsp, queues] = f.of[i];
    if (requantiser == Requantiser::arithmetic && !l.rescale)
      throw bad_input("its steps have no arithmetic form").at(fmt::format("layer '{}' ({})", l.name, l.node)).expected("\"requantiser\": \"table\", or no such key");
    if (logic && l.writable) throw bad_input("weights that can be written have a memory").at(fmt::format("layer '{}' ({})", l.name, l.node)).expected("no key \"memory\"");
    if (logic && l.kind != LayerKind::dense && l.kind != LayerKind::depthwise)
      throw bad_input("a {} layer has no memory of weights", to_string(l.kind)).at(fmt::format("layer '{}' ({})", l.name, l.node)).expected("no key \"memory\"");
    if (!queues.empty() && (l.in.size() < 2 || queues.size() != l.in.size()))
      throw bad_input("{} queues for the {} operands of a {} layer", queues.size(), l.in.size(), to_string(l.kind)).at(fmt::format("layer '{}' ({})", l.name, l.node)).expected("a queue for each operand of a join, or no key \"queues\"");
    for (std::int64_t q : queues)
      if (q < 1 || q > kDeepest) throw bad_input("a queue of {} beats", q).at(fmt::format("layer '{}' ({})", l.name, l.node)).expected(fmt::format("1 to {}", kDeepest));
    const std::string where = fmt::format("layer '{}' ({})", l.name, l.node);
    const bool dense = l.kind == LayerKind::dense;
    if (multipliers != Multipliers::automatic && !dense && l.kind != LayerKind::depthwise)
      throw bad_input("a {} layer has no multipliers to choose", to_string(l.kind)).at(where).expected("no key \"multipliers\"");
    if (!dense && (multipliers == Multipliers::packed || multipliers == Multipliers::constant))
      throw bad_input("a {} layer has no {} multipliers", to_string(l.kind), to_string(multipliers)).at(where).expected("plain or logic");
    if (multipliers == Multipliers::packed && (l.bipolar || l.weight_bits < 2 || per_dsp < 2 || per_dsp > pe || per_dsp > 8))
      throw bad_input("{} rows of {}-bit weights cannot share a DSP when PE is {}", per_dsp, l.weight_bits, pe).at(where).expected("\"per_dsp\" of 2 to 8, at most PE; weights of 2 bits or more");
    if (multipliers == Multipliers::constant && l.groups > 1)
      throw bad_input("a layer of {} groups has no constant multipliers", l.groups).at(where).expected("plain, logic or packed");
    if (multipliers == Multipliers::constant && l.writable)
      throw bad_input("constant multipliers have no weights to write").at(where).expected("plain, logic or packed");
    if (multipliers == Multipliers::constant && (pe != l.mh || logic))
      throw bad_input("constant multipliers compute all {} outputs at once and have no memory", l.mh).at(where).expected(fmt::format("\"pe\": {} and no key \"memory\"", l.mh));
    auto need = [&](bool ok, std::string_view what, std::int64_t value, std::int64_t of, std::string_view of_what) {
      if (!ok)
        throw bad_input("{} = {} does not divide the {} {}", what, value, of, of_what).at(fmt::format("layer '{}' ({})", l.name, l.node));
    };
    const bool channels = l.kind == LayerKind::depthwise || l.kind == LayerKind::pool;
    if (l.kind == LayerKind::dense || channels) {
      need(pe > 0 && most_pe(l) % pe == 0, "PE", pe, most_pe(l), channels ? "channels" : l.groups > 1 ? "outputs of a group" : "outputs");
      need(simd > 0 && most_simd(l) % simd == 0, "SIMD", simd, most_simd(l),
           channels ? "(this unit folds by PE only)" : l.groups > 1 ? "channels of a group" : l.window ? "channels of the window" : "inputs");
    } else if (pe != 1 || simd != 1) {
      throw bad_input("a {} layer cannot be folded", to_string(l.kind)).at(fmt::format("layer '{}' ({})", l.name, l.node));
    }
  }
}

std::string to_json(const StageGraph& g, const Folding& f) {
  std::string r = "{\n  \"format\": \"tandem.folding\",\n  \"version\": 1,\n";
  if (f.interval > 0) r += fmt::format("  \"interval\": {},\n", f.interval);
  r += "  \"layers\": [";
  for (std::size_t i = 0; i < g.layers.size(); ++i)
    r += fmt::format("{}\n    {{\"name\": \"{}\", \"pe\": {}, \"simd\": {}{}{}{}{}}}", i ? "," : "", g.layers[i].name, f.of[i].pe, f.of[i].simd,
                     f.of[i].requantiser == Requantiser::automatic ? "" : f.of[i].requantiser == Requantiser::table ? ", \"requantiser\": \"table\"" : ", \"requantiser\": \"arithmetic\"",
                     f.of[i].logic ? ", \"memory\": \"logic\"" : "", multipliers_text(f.of[i]), f.of[i].queues.empty() ? "" : fmt::format(", \"queues\": [{}]", fmt::join(f.of[i].queues, ", ")));
  return r + "\n  ]\n}\n";
}

Folding folding_from_json(const StageGraph& g, std::string_view text, std::string_view file) {
  auto fail = [&](std::string what) { return Error(Exit::bad_input, std::move(what)).at(std::string(file)); };
  if (text.size() > (16u << 20)) throw fail("a folding of more than 16 MiB");
  // Depth is limited before a document is built: deep nesting would exhaust the stack.
  const nlohmann::json::parser_callback_t shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > 8) throw bad_input("nested too deeply");
    return true;
  };
  Folding f = smallest_folding(g);
  nlohmann::json j;
  try {
    j = nlohmann::json::parse(text, shallow);
  } catch (const nlohmann::json::exception& e) {
    throw fail(fmt::format("not JSON: {}", e.what()));
  } catch (const Error&) {
    throw fail("nested too deeply");
  }
  try {
    if (j.at("format").get<std::string>() != "tandem.folding") throw fail("not a folding").expected("\"format\": \"tandem.folding\"");
    if (j.at("version").get<int>() > 1) throw fail("a folding of a newer version than this program knows");
    if (j.contains("interval")) f.interval = j.at("interval").get<std::int64_t>();
    for (const auto& e : j.at("layers")) {
      const std::string name = e.at("name").get<std::string>();
      std::size_t i = 0;
      std::string known;
      for (; i < g.layers.size() && g.layers[i].name != name; ++i) known += (i ? ", " : "") + g.layers[i].name;
      if (i == g.layers.size()) throw fail(fmt::format("no layer '{}'", printable(name))).expected("one of " + known);
      f.of[i] = {.pe = e.at("pe").get<std::int64_t>(), .simd = e.at("simd").get<std::int64_t>()};
      if (e.contains("requantiser")) {
        const std::string form = e.at("requantiser").get<std::string>();
        if (form == "table") f.of[i].requantiser = Requantiser::table;
        else if (form == "arithmetic") f.of[i].requantiser = Requantiser::arithmetic;
        else throw fail(fmt::format("no requantiser '{}'", printable(form))).expected("table or arithmetic");
      }
      if (e.contains("memory")) {
        const std::string kind = e.at("memory").get<std::string>();
        if (kind != "logic" && kind != "automatic") throw fail(fmt::format("no memory '{}'", printable(kind))).expected("logic or automatic");
        f.of[i].logic = kind == "logic";
      }
      if (e.contains("queues")) f.of[i].queues = e.at("queues").get<std::vector<std::int64_t>>();
      if (e.contains("multipliers")) {
        const std::string form = e.at("multipliers").get<std::string>();
        bool known_form = false;
        for (Multipliers m : {Multipliers::automatic, Multipliers::plain, Multipliers::logic, Multipliers::packed, Multipliers::constant})
          if (form == to_string(m)) f.of[i].multipliers = m, known_form = true;
        if (!known_form) throw fail(fmt::format("no multipliers '{}'", printable(form))).expected("automatic, plain, logic, packed or constant");
      }
      if (e.contains("per_dsp")) {
        const std::int64_t n = e.at("per_dsp").get<std::int64_t>();
        if (n < 2 || n > 8) throw fail(fmt::format("{} rows to a DSP", n)).expected("2 to 8");
        f.of[i].per_dsp = static_cast<int>(n);
      }
    }
  } catch (const nlohmann::json::exception& e) {
    throw fail(fmt::format("a key is missing or has the wrong type: {}", e.what()));
  }
  check_folding(g, f);
  return f;
}

}  // namespace tandem::plan
