#include "tandem/flow/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tandem/base/json.h"
#include "tandem/base/nearest.h"
#include "tandem/base/table.h"
#include "tandem/exec/exec.h"
#include "tandem/ir/by_table.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/tasks/task.h"

namespace tandem::flow {
namespace {
using I = std::int64_t;
using ir::ValueId;
std::size_t ix(ValueId v) { return static_cast<std::size_t>(v); }

constexpr I kChunk = 128;  // samples whose values are held at once

ir::Graph with_outputs(ir::Graph g, const std::vector<ValueId>& outputs) {
  g.outputs = outputs;
  ir::remove_dead(g);
  return g;
}

// The graph without its quantisers of activations and weights: what float runtimes would compute.
ir::Graph without_quantisers(const ir::Graph& model) {
  ir::Graph g = model;
  for (const ir::Node& n : model.nodes) {
    if (ir::op_of(model, n).closure != ir::Closure::quantiser) continue;
    for (ir::Node& m : g.nodes)
      for (ValueId& v : m.inputs)
        if (v == n.outputs[0]) v = n.inputs[0];
    for (ValueId& v : g.outputs)
      if (v == n.outputs[0]) v = n.inputs[0];
  }
  return g;
}

struct Sums {
  double max = 0, absolute = 0, square = 0, noise = 0;
  I n = 0, clipped = 0;
  void add(double x, double q) {
    const double e = std::abs(x - q);
    max = std::max(max, e);
    absolute += e;
    square += x * x;
    noise += e * e;
    ++n;
  }
  void into(LayerError& e) const {
    e.max_error = max;
    e.mean_error = n ? absolute / static_cast<double>(n) : 0;
    e.sqnr_db = noise == 0 ? std::numeric_limits<double>::infinity() : square == 0 ? -std::numeric_limits<double>::infinity() : 10 * std::log10(square / noise);
    e.clipped = n ? static_cast<double>(clipped) / static_cast<double>(n) : 0;
  }
};

// Runs over the rows in chunks: body(outputs of the chunk, first row).
template <class F>
void chunks(const Tensor& x, const Cancel& cancel, F body) {
  for (I at = 0; at < x.shape()[0]; at += kChunk) {
    cancel.check();
    body(x.rows(at, std::min(at + kChunk, x.shape()[0])), at);
  }
}
void gather(std::vector<Tensor>& all, const std::vector<Tensor>& part, std::size_t count, I at, I n) {
  for (std::size_t i = 0; i < count; ++i) {
    if (all.size() <= i) {
      Shape s = part[i].shape();
      s[0] = n;
      all.emplace_back(part[i].dtype(), s);
    }
    const std::size_t row = all[i].bytes() / static_cast<std::size_t>(n);
    std::copy_n(static_cast<const std::byte*>(part[i].raw()), part[i].bytes(), static_cast<std::byte*>(all[i].raw_mutable()) + row * static_cast<std::size_t>(at));
  }
}

tasks::Score accuracy(const Tensor& y, data::Dataset d, std::string_view which, const std::string& source) {
  // A small part of the data may lack the last classes.
  if (y.rank() >= 2)
    for (I k = std::ssize(d.classes); k < y.shape()[1]; ++k) d.classes.push_back(std::to_string(k));
  tasks::Score s = tasks::find_task("classification").score(y, d, {source, "", {}, Fidelity::executed});
  s.metric.source = fmt::format("{}, {}", which, source);
  return s;
}

std::vector<I> answers(const Tensor& y) {
  const I n = y.shape()[0], width = y.size() / n;
  std::vector<I> r;
  for (I i = 0; i < n; ++i) {
    I best = 0;
    for (I k = 1; k < width; ++k)
      if (y.at(i * width + k) > y.at(i * width + best)) best = k;
    r.push_back(width == 1 ? static_cast<I>(y.at(i)) : best);
  }
  return r;
}

Metric squared_error(const Tensor& y, const data::Dataset& d, std::string_view which, const std::string& source) {
  if (y.size() != d.y.size()) throw bad_input("the outputs have shape {}, the targets {}", to_string(y.shape()), to_string(d.y.shape())).at(source).expected("one number a target");
  double sum = 0;
  for (I i = 0; i < y.size(); ++i) sum += (y.at(i) - d.y.at(i)) * (y.at(i) - d.y.at(i));
  return {sum / static_cast<double>(y.size()), "", Fidelity::executed, fmt::format("{}, {}", which, source), {}, {}};
}

void errors_table(Table& t, const std::vector<LayerError>& layers) {
  t.columns = {{"layer"}, {"of"}, {"format"}, {"scale", true}, {"max error", true}, {"mean error", true}, {"SQNR dB", true}, {"clipped", true}};
  for (const LayerError& e : layers)
    t.add({e.layer, e.role, e.format, e.scale > 0 ? fmt::format("{:.4g}", e.scale) : "", fmt::format("{:.3g}", e.max_error), fmt::format("{:.3g}", e.mean_error),
           std::isfinite(e.sqnr_db) ? fmt::format("{:.1f}", e.sqnr_db) : "exact", e.role == "result" ? "" : fmt::format("{:.2f} %", 100 * e.clipped)});
}
void errors_json(JsonWriter& j, const std::vector<LayerError>& layers) {
  j.key("layers").array();
  for (const LayerError& e : layers) {
    j.object().field("layer", e.layer).field("of", e.role).field("format", e.format).field("scale", e.scale).field("max_error", e.max_error).field("mean_error", e.mean_error);
    if (std::isfinite(e.sqnr_db)) j.field("sqnr_db", e.sqnr_db);
    else j.key("sqnr_db").null();
    j.field("clipped", e.clipped).end();
  }
  j.end();
}
void metric_json(JsonWriter& j, const char* key, const std::optional<Metric>& m) {
  j.key(key);
  if (!m) {
    j.null();
    return;
  }
  j.object().field("value", m->value).field("unit", m->unit).field("fidelity", to_string(m->fidelity)).field("source", m->source);
  if (m->low) j.field("low", *m->low).field("high", *m->high);
  j.end();
}
std::string metric_text(const Metric& m) {
  return m.low ? fmt::format("{:.2f} {} (95 % interval {:.2f} .. {:.2f})", m.value, m.unit, *m.low, *m.high) : fmt::format("{:.6g}{}{}", m.value, m.unit.empty() ? "" : " ", m.unit);
}

}  // namespace

QuantizeResult quantize(const ir::Graph& model, const QuantizeParams& p, const Cancel& cancel) {
  auto say = [&](std::string_view s) { if (p.say) p.say(s); };
  if (p.method != "minmax") throw bad_input("'{}' is no calibration method", printable(p.method)).at("--method").expected("minmax");
  ir::PostTraining how;
  how.weights = ir::post_training_format(p.weight_format.empty() ? p.format : p.weight_format, p.weight_format.empty() ? "--format" : "--weight-format");
  how.activations = ir::post_training_format(p.activation_format.empty() ? p.format : p.activation_format, p.activation_format.empty() ? "--format" : "--activation-format");
  how.per_channel = p.per_channel;
  if (p.per_channel && how.weights.elem.fraction_bits != 0) throw bad_input("fixed point has one scale for all channels").at("--per-channel").fix("leave --per-channel out, or take intN for the weights");
  if (p.data.empty()) throw bad_input("there is no data to find the ranges on").expected("--data D: an .npz, .npy, .csv, a folder of images or a data set of `tandem tasks`, for example digits");
  const ir::QuantPlan plan = ir::plan_quantisation(model, p.by_table);
  const Samples calibration = open_samples(p.data, model, data::Part::train, p.calibration, p.limits);
  const Samples test = open_samples(p.data, model, data::Part::test, p.limit, p.limits);

  QuantizeResult r;
  r.calibrated_on = calibration.source;
  r.judged_on = test.source;
  r.per_channel = p.per_channel;
  r.weights = how.weights.elem.is_signed ? how.weights.text() : fmt::format("int{}", how.weights.elem.bits);
  r.activations = how.activations.text();
  say("finding ranges: " + calibration.source);
  std::vector<ValueId> values;
  for (const ir::QuantPoint& q : plan.points) values.push_back(q.value);
  std::vector<ir::ValueRange> ranges(values.size(), {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()});
  const ir::Graph watched = with_outputs(plan.graph, values);
  chunks(calibration.x, cancel, [&](const Tensor& x, I) {
    const std::vector<Tensor> y = exec::run_rows(watched, x);
    for (std::size_t k = 0; k < y.size(); ++k)
      for (float v : y[k].values<float>()) {
        if (!std::isfinite(v)) throw bad_input("the float model computes {} in '{}'", v, printable(plan.points[k].layer)).at(p.data).expected("finite values on the calibration data");
        ranges[k].lo = std::min<double>(ranges[k].lo, v);
        ranges[k].hi = std::max<double>(ranges[k].hi, v);
      }
  });
  ir::Quantised q = ir::quantise(plan, ranges, how);
  if (p.by_table) {
    ir::ByTable t;
    q.graph = ir::by_table(q.graph, &t);
    say(fmt::format("by table: {} of Softmax and LayerNormalization", t.rewritten));
    for (const std::string& n : t.left) say("left to the host: " + n);
  }

  say("comparing with the float model: " + test.source);
  std::vector<ValueId> quantised(q.graph.outputs), floating(plan.graph.outputs);
  const std::size_t results = floating.size();
  for (std::size_t k = 0; k < q.points.size(); ++k) {
    floating.push_back(values[k]);
    for (const ir::Node& n : q.graph.nodes)
      if (n.name == q.points[k].quantiser) quantised.push_back(n.outputs[0]);
  }
  const ir::Graph fg = with_outputs(plan.graph, floating), qg = with_outputs(q.graph, quantised);
  std::vector<Sums> sums(floating.size());
  std::vector<Tensor> yf, yq;
  chunks(test.x, cancel, [&](const Tensor& x, I at) {
    const std::vector<Tensor> a = exec::run_rows(fg, x), b = exec::run_rows(qg, x);
    for (std::size_t k = 0; k < a.size(); ++k)
      for (I i = 0; i < a[k].size(); ++i) {
        const double v = a[k].at(i);
        sums[k].add(v, b[k].at(i));
        if (k >= results) {
          const ir::QuantisedValue& z = q.points[k - results];
          sums[k].clipped += v < z.lo - z.scale / 2 || v > z.hi + z.scale / 2;
        }
      }
    gather(yf, a, results, at, test.x.shape()[0]);
    gather(yq, b, results, at, test.x.shape()[0]);
  });
  auto point_row = [&](std::size_t k) {
    LayerError e{q.points[k].layer, plan.points[k].input ? "input" : "values", q.points[k].format, q.points[k].scale, 0, 0, 0, 0};
    sums[results + k].into(e);
    r.layers.push_back(e);
  };
  auto weight_row = [&](std::size_t c) {
    const ir::Node& n = plan.graph.nodes[static_cast<std::size_t>(plan.contractions[c])];
    const Tensor& w = *plan.graph.constant(plan.graph.constant(n.in(1)) ? n.in(1) : n.in(0));
    const ir::QuantisedValue& z = q.weights[c];
    LayerError e{z.layer, "weights", z.format, z.scale, 0, 0, 0, 0};
    ir::Graph g;  // the quantiser alone
    for (const ir::Node& m : q.graph.nodes)
      if (m.name == z.quantiser) {
        std::vector<ValueId> in;
        for (ValueId v : m.inputs) in.push_back(v);
        g = q.graph;
        g.inputs.clear();
        g.nodes = {m};
        g.outputs = {m.outputs[0]};
        ir::remove_dead(g);
      }
    const Tensor got = ir::to_tensors(g, ir::evaluate_literal(g, {}))[0];
    Sums s;
    for (I i = 0; i < w.size(); ++i) {
      s.add(w.at(i), got.at(i));
      s.clipped += w.at(i) < z.lo - z.scale / 2 || w.at(i) > z.hi + z.scale / 2;
    }
    s.into(e);
    r.layers.push_back(e);
  };
  // In the order of the model.
  const ir::UseMap uses(plan.graph);
  std::size_t c = 0;
  for (std::size_t k = 0; k <= q.points.size(); ++k) {
    const int here = k < q.points.size() ? uses.producer[ix(values[k])] : std::numeric_limits<int>::max();
    for (; c < q.weights.size() && plan.contractions[c] <= here; ++c) weight_row(c);
    if (k < q.points.size()) point_row(k);
  }
  for (std::size_t k = 0; k < results; ++k) {
    LayerError e{plan.graph.values[ix(plan.graph.outputs[k])].name, "result", "exact", 0, 0, 0, 0, 0};
    sums[k].into(e);
    r.layers.push_back(e);
  }
  if (test.set.labelled()) {
    r.before = accuracy(yf[0], test.set, "float", test.source).metric;
    r.after = accuracy(yq[0], test.set, "exact", test.source).metric;
  }
  r.graph = std::move(q.graph);
  r.graph.metadata["quantised"] = fmt::format("weights {}{}, activations {}, minmax on {}", r.weights, r.per_channel ? " per channel" : "", r.activations, r.calibrated_on);
  return r;
}

std::string to_text(const QuantizeResult& r) {
  Table t;
  errors_table(t, r.layers);
  std::string s = fmt::format("weights {}{}, activations {}; ranges from {}, errors on {}\n\n{}", r.weights, r.per_channel ? " per channel" : "", r.activations, printable(r.calibrated_on),
                              printable(r.judged_on), render(t, TableStyle::text));
  if (r.before) s += fmt::format("\naccuracy  float {}\n          exact {}\n", metric_text(*r.before), metric_text(*r.after));
  return s;
}

std::string to_json(const QuantizeResult& r, std::string_view out) {
  JsonWriter j;
  j.object().field("weights", r.weights).field("activations", r.activations).field("per_channel", r.per_channel).field("calibrated_on", r.calibrated_on).field("judged_on", r.judged_on).field("out", out);
  errors_json(j, r.layers);
  metric_json(j, "before", r.before);
  metric_json(j, "after", r.after);
  return j.end().text();
}

EvalResult evaluate(const ir::Graph& model, const EvalParams& p, const Cancel& cancel) {
  if (!p.task.empty() && p.task != "classification" && p.task != "regression")
    throw bad_input("'{}' is not a task", printable(p.task)).at("--task").expected("classification or regression").fix(suggest(p.task, std::vector<std::string>{"classification", "regression"}));
  if (p.data.empty()) throw bad_input("there is no data").expected("--data D: samples with labels");
  const Samples s = open_samples(p.data, model, data::Part::test, p.limit, p.limits);
  if (s.set.y.size() == 0)
    throw bad_input("the data has no labels").at(p.data).expected("an array y (or labels, targets) beside the samples").fix("`tandem run` computes outputs without labels");
  EvalResult r;
  r.task = p.task.empty() ? (s.set.labelled() ? "classification" : "regression") : p.task;
  if (r.task == "classification" && !s.set.labelled()) throw bad_input("the labels are fractions, not classes").at(p.data).fix("--task regression");
  r.data = s.source;
  r.n = s.x.shape()[0];
  ir::Graph g = model;
  ir::verify(g);
  ir::infer_shapes(g);
  std::vector<ValueId> exact(g.outputs);
  const std::size_t results = exact.size();
  std::vector<const ir::Node*> quantisers;
  for (const ir::Node& n : g.nodes) {
    if (ir::op_of(g, n).closure != ir::Closure::quantiser) continue;
    r.quantised = true;
    if (g.constant(n.inputs[0])) continue;
    quantisers.push_back(&n);
    exact.push_back(n.outputs[0]);
  }
  const ir::Graph f = without_quantisers(g), eg = with_outputs(g, exact);
  std::vector<ValueId> plain(f.outputs);
  for (const ir::Node* n : quantisers) {
    const auto it = std::find_if(f.nodes.begin(), f.nodes.end(), [&](const ir::Node& m) { return m.outputs == n->outputs; });
    plain.push_back(it->inputs[0]);
  }
  const ir::Graph fg = with_outputs(f, plain);
  std::vector<Sums> sums(exact.size());
  std::vector<Tensor> yf, ye;
  chunks(s.x, cancel, [&](const Tensor& x, I at) {
    const std::vector<Tensor> a = exec::run_rows(fg, x);
    gather(yf, a, results, at, r.n);
    if (!r.quantised) return;
    const std::vector<Tensor> b = exec::run_rows(eg, x);
    gather(ye, b, results, at, r.n);
    for (std::size_t k = results; k < b.size(); ++k)
      for (I i = 0; i < b[k].size(); ++i) sums[k].add(a[k].at(i), b[k].at(i));
  });
  for (std::size_t k = 0; k < quantisers.size(); ++k) {
    const ir::Node& n = *quantisers[k];
    LayerError e{n.name.empty() ? g.values[ix(n.outputs[0])].name : n.name, "values", n.op, 0, 0, 0, 0, 0};
    if (n.op == "Quant")
      if (const Tensor *bits = g.constant(n.in(3)), *scale = g.constant(n.in(1)); bits && scale) {
        e.format = fmt::format("{}int{}", n.attr_int("signed", 1) ? "" : "u", bits->at(0));
        for (I i = 0; i < scale->size(); ++i) e.scale = std::max(e.scale, scale->at(i));
      }
    sums[results + k].into(e);
    r.layers.push_back(e);
  }
  if (r.task == "regression") {
    r.floating = squared_error(yf[0], s.set, "float", s.source);
    if (r.quantised) r.exact = squared_error(ye[0], s.set, "exact", s.source);
    for (I i = 0; r.quantised && i < r.n; ++i) r.agreeing += yf[0].rows(i, i + 1).same(ye[0].rows(i, i + 1));
    return r;
  }
  const tasks::Score sf = accuracy(yf[0], s.set, "float", s.source);
  r.floating = sf.metric;
  r.baseline = sf.baseline;
  r.confusion = sf.confusion;
  r.classes = s.set.classes;
  for (I k = std::ssize(r.classes); k < r.confusion.shape()[0]; ++k) r.classes.push_back(std::to_string(k));
  if (r.quantised) {
    const tasks::Score se = accuracy(ye[0], s.set, "exact", s.source);
    r.exact = se.metric;
    r.confusion = se.confusion;
    const std::vector<I> a = answers(yf[0]), b = answers(ye[0]);
    for (I i = 0; i < r.n; ++i) r.agreeing += a[static_cast<std::size_t>(i)] == b[static_cast<std::size_t>(i)];
  }
  return r;
}

std::string to_text(const EvalResult& r, bool confusion) {
  const bool classes = r.task == "classification";
  const char* const figure = classes ? "accuracy" : "mean squared error";
  std::string s = fmt::format("{} on {}\n\n{}, float: {}\n", r.task, printable(r.data), figure, metric_text(r.floating));
  if (r.exact) {
    s += fmt::format("{}, exact: {}\n", figure, metric_text(*r.exact));
    s += fmt::format("float and exact agree on {} of {} {}\n", grouped(r.agreeing), grouped(r.n), classes ? "answers" : "outputs");
    s += "(float: the same network without its quantisers)\n";
  } else {
    s += "the model has no quantisers: its exact result is its float result\n";
  }
  if (r.baseline) s += fmt::format("most frequent class: {:.2f} %\n", r.baseline->value);
  if (confusion && classes) {
    Table t;
    t.columns = {{"truth \\ answer"}};
    for (const std::string& c : r.classes) t.columns.push_back({c, true});
    const I k = r.confusion.shape()[0];
    for (I i = 0; i < k; ++i) {
      std::vector<std::string> row{r.classes[static_cast<std::size_t>(i)]};
      for (I n = 0; n < k; ++n) row.push_back(std::to_string(r.confusion.int_at(i * k + n)));
      t.add(row);
    }
    s += "\n" + render(t, TableStyle::text);
  }
  if (!r.layers.empty()) {
    Table t;
    t.columns = {{"quantiser"}, {"format"}, {"scale", true}, {"max error", true}, {"mean error", true}, {"SQNR dB", true}};
    for (const LayerError& e : r.layers)
      t.add({e.layer, e.format, e.scale > 0 ? fmt::format("{:.4g}", e.scale) : "", fmt::format("{:.3g}", e.max_error), fmt::format("{:.3g}", e.mean_error),
             std::isfinite(e.sqnr_db) ? fmt::format("{:.1f}", e.sqnr_db) : "exact"});
    s += "\n" + render(t, TableStyle::text);
  }
  return s;
}

std::string to_json(const EvalResult& r, std::string_view model) {
  JsonWriter j;
  j.object().field("model", model).field("task", r.task).field("data", r.data).field("n", r.n).field("quantised", r.quantised);
  metric_json(j, "float", r.floating);
  metric_json(j, "exact", r.exact);
  metric_json(j, "baseline", r.baseline);
  if (r.exact) j.field("agreeing", r.agreeing);
  else j.key("agreeing").null();
  j.field("classes", r.classes).key("confusion").array();
  const I k = r.confusion.rank() == 2 ? r.confusion.shape()[0] : 0;
  for (I i = 0; i < k; ++i) {
    std::vector<I> row;
    for (I n = 0; n < k; ++n) row.push_back(r.confusion.int_at(i * k + n));
    j.array();
    for (I v : row) j.value(v);
    j.end();
  }
  j.end();
  errors_json(j, r.layers);
  return j.end().text();
}

}  // namespace tandem::flow
