#include "tandem/cli/command.h"
#include "tandem/numerics/format.h"

namespace tandem::cli {
namespace {

Run setup(Options& o) {
  struct Args { std::string name; };
  auto a = std::make_shared<Args>();
  o.argument("FORMAT", a->name, "One format, as in \"int4;narrow\" or \"fixed<8,4>\": its values by code", false);
  return [a](Context& c) {
    const auto text = [](const Rational& q) { return fmt::format("{}", nearest_double(q)); };
    if (!a->name.empty()) {
      const Format f = Format::parse(a->name);
      if (f.elem.bits > 16) throw bad_input("'{}' has {} bits: too many values to list", a->name, f.elem.bits).expected("at most 16 bits");
      const std::vector<GridPoint> points = grid(f.elem);
      if (c.json) {
        JsonWriter j;
        j.object().field("format", f.text()).field("bits", f.elem.bits).key("values").array();
        for (const GridPoint& p : points) j.object().field("code", p.code).field("value", nearest_double(p.value)).end();
        c.print(j.end().end());
        return Exit::done;
      }
      Table t;
      t.columns = {{"code", true}, {"value", true}};
      for (const GridPoint& p : points) t.add({fmt::format("{}", p.code), text(p.value)});
      c.print(t);
      return Exit::done;
    }
    // Families by example: every width and split of the same form parses too.
    static constexpr std::pair<const char*, const char*> kFormats[] = {
        {"int8", "two's complement integers, 1 to 32 bits"}, {"uint4", "unsigned integers, 1 to 32 bits"},
        {"int4;narrow", "without the most negative code"}, {"fixed<16,6>", "fixed point: width and integer bits"},
        {"bipolar", "-1 and +1"}, {"ternary", "-1, 0 and +1"}, {"f32", "IEEE single"}, {"f16", "IEEE half"}, {"bf16", "bfloat16"}};
    Table t;
    t.columns = {{"format"}, {"meaning"}, {"bits", true}, {"smallest", true}, {"largest", true}};
    JsonWriter j;
    j.object().key("formats").array();
    for (const auto& [name, meaning] : kFormats) {
      const Format f = Format::parse(name);
      std::string lo, hi;
      if (f.elem.bits <= 16) {
        const std::vector<GridPoint> points = grid(f.elem);
        lo = text(points.front().value), hi = text(points.back().value);
      } else if (f.elem.kind == Element::Kind::floating) {
        lo = "-3.4028234663852886e+38", hi = "3.4028234663852886e+38";
      } else {
        const Cast k = integer_cast(f.elem, f.cast);
        lo = fmt::format("{}", k.kmin), hi = fmt::format("{}", k.kmax);
      }
      t.add({name, meaning, fmt::format("{}", f.elem.bits), lo, hi});
      j.object().field("format", name).field("meaning", meaning).field("bits", f.elem.bits).end();
    }
    j.end().end();
    if (c.json) c.print(j);
    else c.print(t);
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_formats;
const Command cmd_formats{
    .name = "formats",
    .group = "What exists",
    .summary = "Number formats; the values of one format by code",
    .description = "The families of number formats, by example. With a format, every value it can hold before scaling.",
    .examples = {{"tandem formats"}, {"tandem formats \"int4;narrow\""}},
    .setup = setup,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "formats": {"type": "array", "items": {"type": "object", "required": ["format", "meaning", "bits"], "additionalProperties": false,
      "properties": {"format": {"type": "string"}, "meaning": {"type": "string"}, "bits": {"type": "integer"}}}},
    "format": {"type": "string"}, "bits": {"type": "integer"},
    "values": {"type": "array", "items": {"type": "object", "required": ["code", "value"], "additionalProperties": false,
      "properties": {"code": {"type": "integer"}, "value": {"type": "number"}}}}
  },
  "additionalProperties": false
}
)"};

}  // namespace tandem::cli
