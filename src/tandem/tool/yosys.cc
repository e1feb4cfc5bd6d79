#include "tandem/tool/yosys.h"

#include <sstream>

#include "tandem/base/config.h"
#include "tandem/tool/find.h"
#include "tandem/tool/messages.h"

namespace tandem::tool {
namespace {

ProcessResult run_script(const WorkFolder& work, const std::string& name, const std::string& script, double seconds, Trust trust, const Cancel& cancel) {
  work.put(name, script);
  Process p;
  p.argv = {find("yosys").path.string(), "-q", "-s", name};
  p.folder = work.path();
  p.seconds = seconds;
  p.trust = trust;
  return p.run(cancel);
}

std::string read_files(const std::vector<std::string>& files, const std::string& top) {
  TANDEM_CHECK(!files.empty(), "yosys without a source file");
  require_identifier(top);
  std::string s;
  for (const auto& f : files) {
    require_safe_name(f);
    s += "read_verilog -sv " + f + "\n";
  }
  return s;
}

std::string read_formal(const std::vector<std::string>& files) {
  std::string s;
  for (const auto& f : files) {
    require_safe_name(f);
    s += "read_verilog -sv -formal " + f + "\n";
  }
  return s;
}

void forget(const WorkFolder& work, const std::string& name) {
  std::error_code ec;
  std::filesystem::remove(work / name, ec);
}

}  // namespace

SynthResult synth_ice40(const WorkFolder& work, const std::vector<std::string>& files, const SynthOptions& o, const Cancel& cancel) {
  require_safe_name(o.json);
  for (const auto& f : o.support) require_safe_name(f);
  std::string script = read_files(files, o.top);
  script += fmt::format("synth_ice40 {}-top {} -json {}\n", o.dsp ? "-dsp " : "", o.top, o.json);
  // tee: the report itself in a file, whatever else is printed.
  script += "tee -q -o stat.json stat -json\n";
  if (!o.verilog.empty()) {
    require_safe_name(o.verilog);
    script += "write_verilog -noattr " + o.verilog + "\n";
    forget(work, o.verilog);
  }
  forget(work, o.json);
  forget(work, "stat.json");

  SynthResult r;
  r.tool = "yosys " + find("yosys").version;
  r.json = o.json;
  r.run = run_script(work, "synth.ys", script, o.seconds, o.trust, cancel);
  r.warnings = lines_with(r.run.out + "\n" + r.run.err, {"Warning:"});
  if (!r.run.ok()) throw tool_failed(r.tool, r.run, "the design was refused");
  const std::string stat = work.get("stat.json");
  const Config design = Config::parse(stat, "stat.json").at("design");
  if (design.at("num_cells").as<std::int64_t>() > 0)
    for (const auto& [type, n] : design.at("num_cells_by_type").entries()) r.cells.all[type] = n.as<std::int64_t>();
  for (const auto& [type, n] : r.cells.all) {
    if (type == "SB_LUT4") r.cells.lut4 += n;
    else if (type.starts_with("SB_DFF")) r.cells.ff += n;
    else if (type == "SB_CARRY") r.cells.carry += n;
    else if (type.starts_with("SB_RAM40")) r.cells.bram += n;
    else if (type == "SB_SPRAM256KA") r.cells.spram += n;
    else if (type == "SB_MAC16") r.cells.dsp += n;
    else if (!type.starts_with("SB_") && !type.starts_with("ICESTORM_"))
      throw Error(Exit::bad_input, fmt::format("{}: the netlist holds {} cells of type {} that iCE40 does not have", r.tool, n, printable(type)));
  }
  // A full disk ends with exit code 0 and a short netlist.
  const std::string net = work.get(o.json);
  const auto last = net.find_last_not_of(" \n\r\t");
  if (net.front() != '{' || net[last] != '}' || net.find("\"" + o.top + "\"") == std::string::npos)
    throw Error(Exit::limit, fmt::format("{} left an incomplete netlist", r.tool)).fix("look for a full disk or a lack of memory");
  if (!o.verilog.empty() && work.get(o.verilog).rfind("endmodule") == std::string::npos)
    throw Error(Exit::limit, fmt::format("{} left an incomplete Verilog netlist", r.tool)).fix("look for a full disk");
  return r;
}

std::int64_t xcup_memory_luts(std::string_view cell) {
  static constexpr std::pair<std::string_view, std::int64_t> kLuts[] = {
      {"SRL16E", 1},    {"SRLC32E", 1},   {"RAM16X1D", 2},  {"RAM16X1S", 1},   {"RAM32X1S", 1},  {"RAM32X1D", 2},   {"RAM64X1S", 1},
      {"RAM64X1D", 2},  {"RAM128X1S", 2}, {"RAM128X1D", 4}, {"RAM256X1S", 4},  {"RAM256X1D", 8}, {"RAM512X1S", 8},  {"RAM32M", 4},
      {"RAM64M", 4},    {"RAM32M16", 8},  {"RAM64M8", 8},   {"RAM16X1S_1", 1}, {"RAM32X16DR8", 8}, {"RAM64X8SW", 8}};
  for (const auto& [name, n] : kLuts)
    if (name == cell) return n;
  return 0;
}

std::string_view to_string(Fabric f) { return f == Fabric::ice40 ? "ice40" : "xcup"; }

namespace {

// False for a type that the fabric does not have.
bool count_ice40(FabricCells& c, std::string_view type, std::int64_t n) {
  if (type == "SB_LUT4") c.lut += n;
  else if (type.starts_with("SB_DFF")) c.ff += n;
  else if (type == "SB_CARRY") c.carry += n;
  else if (type.starts_with("SB_RAM40")) c.bram += n;
  else if (type == "SB_MAC16") c.dsp += n;
  else return type.starts_with("SB_") || type.starts_with("ICESTORM_");
  return true;
}
bool count_xcup(FabricCells& c, std::string_view type, std::int64_t n) {
  if (type.size() == 4 && type.starts_with("LUT") && type[3] >= '1' && type[3] <= '6') c.lut += n;
  else if (const std::int64_t l = xcup_memory_luts(type)) c.lut += l * n, c.lut_memory += l * n;
  else if (type == "FDRE" || type == "FDSE" || type == "FDCE" || type == "FDPE") c.ff += n;
  else if (type == "CARRY4" || type == "CARRY8") c.carry += n;
  else if (type == "RAMB18E2") c.bram += n;
  else if (type == "RAMB36E2") c.bram += 2 * n;
  else if (type == "DSP48E2") c.dsp += n;
  else if (type == "INV") c.inv += n;
  else return type.starts_with("MUXF");
  return true;
}

}  // namespace

namespace {

// A top that only keeps the modules: nothing is connected, nothing is flattened.
std::string keep_top(const WorkFolder& work, const std::string& name, const std::vector<std::string>& modules) {
  std::string top = fmt::format("module {} ();\n", name);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    require_identifier(modules[i]);
    top += fmt::format("  (* keep *) {} u{} ();\n", modules[i], i);
  }
  work.put("keep_top.v", top + "endmodule\n");
  return "read_verilog -sv keep_top.v\n";
}

}  // namespace

FabricResult synth_modules(Fabric fabric, const WorkFolder& work, const std::vector<std::string>& files, const std::vector<std::string>& modules,
                           const SynthOptions& o, const Cancel& cancel) {
  for (const auto& f : o.support) require_safe_name(f);
  std::string script = read_files(files, o.top) + keep_top(work, o.top, modules);
  if (fabric == Fabric::ice40) script += fmt::format("synth_ice40 -noflatten {}-top {}\n", o.dsp ? "-dsp " : "", o.top);
  else script += fmt::format("synth_xilinx -family xcup -noiopad -noclkbuf {}-top {}\n", o.dsp ? "" : "-nodsp ", o.top);
  script += "tee -q -o stat.json stat -json\n";
  forget(work, "stat.json");
  FabricResult r;
  r.tool = "yosys " + find("yosys").version;
  r.run = run_script(work, "synth.ys", script, o.seconds, o.trust, cancel);
  if (!r.run.ok()) throw tool_failed(r.tool, r.run, "the design was refused");
  const std::string stat = work.get("stat.json");
  const Config found = Config::parse(stat, "stat.json").at("modules");
  for (const std::string& name : modules) {
    const auto m = found.find("\\" + name);
    if (!m) throw Error(Exit::limit, fmt::format("{} left no cells of module {}", r.tool, name)).fix("look for a full disk or a lack of memory");
    FabricCells& c = r.modules[name];
    if (m->at("num_cells").as<std::int64_t>() == 0) continue;
    for (const auto& [type, count] : m->at("num_cells_by_type").entries()) {
      const std::int64_t n = count.as<std::int64_t>();
      c.all[type] = n;
      if (!(fabric == Fabric::ice40 ? count_ice40 : count_xcup)(c, type, n))
        throw Error(Exit::bad_input, fmt::format("{}: module {} holds {} cells of type {} that are not counted for {}", r.tool, name, n, printable(type), to_string(fabric)));
    }
  }
  return r;
}

namespace {

// The cell that stands for a memory macro, and what becomes one.
constexpr std::string_view kMacro = R"((* blackbox *)
module tandem_sram #(parameter WORDS = 1, parameter BITS = 1, parameter ADDRESS = 1) (
  input clk, input re, input [ADDRESS-1:0] ra, output [BITS-1:0] q, input we, input [ADDRESS-1:0] wa, input [BITS-1:0] d);
endmodule
)";
constexpr std::string_view kMacroMap = R"((* techmap_celltype = "$mem_v2" *)
module tandem_memory (RD_CLK, RD_EN, RD_ARST, RD_SRST, RD_ADDR, RD_DATA, WR_CLK, WR_EN, WR_ADDR, WR_DATA);
  parameter MEMID = "", SIZE = 1, OFFSET = 0, ABITS = 1, WIDTH = 1;
  parameter INIT = 1'bx;
  parameter RD_PORTS = 1, RD_CLK_ENABLE = 1, RD_CLK_POLARITY = 1, RD_TRANSPARENCY_MASK = 0, RD_COLLISION_X_MASK = 0, RD_WIDE_CONTINUATION = 0,
    RD_CE_OVER_SRST = 0, RD_ARST_VALUE = 0, RD_SRST_VALUE = 0, RD_INIT_VALUE = 0;
  parameter WR_PORTS = 1, WR_CLK_ENABLE = 1, WR_CLK_POLARITY = 1, WR_PRIORITY_MASK = 0, WR_WIDE_CONTINUATION = 0;
  input [RD_PORTS-1:0] RD_CLK, RD_EN, RD_ARST, RD_SRST;
  input [RD_PORTS*ABITS-1:0] RD_ADDR;
  output [RD_PORTS*WIDTH-1:0] RD_DATA;
  input [WR_PORTS-1:0] WR_CLK;
  input [WR_PORTS*WIDTH-1:0] WR_EN;
  input [WR_PORTS*ABITS-1:0] WR_ADDR;
  input [WR_PORTS*WIDTH-1:0] WR_DATA;
  wire _TECHMAP_FAIL_ = !(WR_PORTS == 1 && RD_PORTS == 1 && RD_CLK_ENABLE == 1 && OFFSET == 0 && WIDTH * SIZE >= MACRO_BITS);
  tandem_sram #(.WORDS(SIZE), .BITS(WIDTH), .ADDRESS(ABITS)) _TECHMAP_REPLACE_ (
    .clk(WR_CLK), .re(RD_EN), .ra(RD_ADDR), .q(RD_DATA), .we(WR_EN[0]), .wa(WR_ADDR), .d(WR_DATA));
endmodule
)";

}  // namespace

CellsResult synth_cells(const WorkFolder& work, const std::vector<std::string>& files, const std::string& liberty, const std::vector<std::string>& modules,
                        std::int64_t macro_bits, const SynthOptions& o, const Cancel& cancel) {
  require_safe_name(liberty);
  require_safe_name(o.json);
  for (const auto& f : o.support) require_safe_name(f);
  std::string script = read_files(files, o.top);
  if (!modules.empty()) script += keep_top(work, o.top, modules);
  work.put("tandem_sram.v", kMacro);
  std::string map(kMacroMap);
  constexpr std::string_view kLimit = "MACRO_BITS";
  map.replace(map.find(kLimit), kLimit.size(), std::to_string(macro_bits));
  work.put("tandem_memory.v", map);
  script += fmt::format("read_verilog -lib tandem_sram.v\nhierarchy -check -top {0}\nsynth -top {0} -run begin:fine\n"
                        "techmap -map tandem_memory.v t:$mem_v2\nclean\nsynth -top {0} -run fine:\n"
                        "dfflibmap -liberty {1}\nabc -liberty {1}\nopt_clean -purge\nwrite_json {2}\n", o.top, liberty, o.json);
  forget(work, o.json);
  CellsResult r;
  r.tool = "yosys " + find("yosys").version;
  r.run = run_script(work, "synth.ys", script, o.seconds, o.trust, cancel);
  if (!r.run.ok()) throw tool_failed(r.tool, r.run, "the design was refused");
  r.json = work.get(o.json);
  const auto last = r.json.find_last_not_of(" \n\r\t");
  if (r.json.front() != '{' || r.json[last] != '}' || r.json.find("\"" + o.top + "\"") == std::string::npos)
    throw Error(Exit::limit, fmt::format("{} left an incomplete netlist", r.tool)).fix("look for a full disk or a lack of memory");
  return r;
}

CheckResult check_verilog(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top, Trust trust, const Cancel& cancel) {
  std::string script = read_files(files, top);
  script += fmt::format("hierarchy -check -top {}\nproc\nflatten\ntee -q -o check.txt check\ntee -q -o stat.json stat -json\n", top);
  forget(work, "check.txt");
  forget(work, "stat.json");
  CheckResult r;
  r.run = run_script(work, "check.ys", script, 300, trust, cancel);
  const std::string tool = "yosys " + find("yosys").version;
  if (!r.run.ok()) throw tool_failed(tool, r.run, "the design was refused");
  const std::string text = work.get("check.txt");
  constexpr std::string_view kFound = "Found and reported ";
  const auto at = text.rfind(kFound);
  const auto n = at == std::string::npos ? std::nullopt : parse_int(std::string_view(text).substr(at + kFound.size(), text.find(' ', at + kFound.size()) - at - kFound.size()));
  if (!n) throw Error(Exit::limit, tool + " left no result of its check");
  r.problems = *n;
  const Config design = Config::parse(work.get("stat.json"), "stat.json").at("design");
  if (design.at("num_cells").as<std::int64_t>() > 0)
    for (const auto& [type, count] : design.at("num_cells_by_type").entries())
      if (type.find("latch") != std::string::npos) r.latches += count.as<std::int64_t>();
  r.messages = lines_with(r.run.out + "\n" + r.run.err + "\n" + text, {"Warning:"});
  return r;
}

NeverResult prove_never(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top, const std::string& signal, int steps, double seconds,
                        bool induction, const Cancel& cancel) {
  require_identifier(signal);
  TANDEM_CHECK(!files.empty(), "a proof without a source file");
  require_identifier(top);
  std::string script = read_formal(files);
  script += fmt::format("hierarchy -check -top {}\nproc\nflatten\nmemory_dff\nmemory_map\nopt -fast\ntee -q -o proof.txt sat -tempinduct{} -prove {} 0 -set-assumes -show-inputs -maxsteps {} -timeout {}\n", top, induction ? "" : "-baseonly", signal, steps,
                        static_cast<int>(seconds));
  forget(work, "proof.txt");
  NeverResult r;
  r.run = run_script(work, "prove.ys", script, 4 * seconds + 30, Trust::ours, cancel);
  const std::string tool = "yosys " + find("yosys").version;
  if (!r.run.ok() && !r.run.timed_out) throw tool_failed(tool, r.run, "the design was refused");
  if (r.run.timed_out || !work.has("proof.txt")) return r;
  const std::string text = work.get("proof.txt");
  constexpr std::string_view kStep = "[base case ";
  for (std::size_t at = text.find(kStep); at != std::string::npos; at = text.find(kStep, at + 1)) ++r.steps;
  if (text.find("Induction step proven: SUCCESS!") != std::string::npos) r.verdict = Verdict::proven;
  else if (text.find("model found for base case: FAIL!") != std::string::npos) r.verdict = Verdict::refuted;
  else if (text.find("Reached maximum number of time steps") != std::string::npos) r.verdict = Verdict::bounded;
  if (r.verdict == Verdict::refuted)
    if (const auto at = text.rfind("  Time "); at != std::string::npos) r.trace = text.substr(at);
  return r;
}

namespace {

// From what `script` leaves of `top`: registers without a first value, and what is undefined, become inputs, `assume`s constraints.
NeverResult reach(const WorkFolder& work, std::string script, const std::string& commands, double seconds, const Cancel& cancel) {
  const std::string tool = "yosys " + find("yosys").version;
  script += "techmap\nopt -fast\nsetundef -undriven -anyseq\nsetundef -anyseq\ndffunmap\nsimplemap\naigmap\nopt_clean\nwrite_aiger -zinit proof.aig\n";
  forget(work, "proof.aig");
  NeverResult r;
  r.run = run_script(work, "prove.ys", script, 120, Trust::ours, cancel);
  if (!r.run.ok()) throw tool_failed(tool, r.run, "the design was refused");
  // "aig M I L O A B C": without an output or a bad state nothing is left to show.
  const std::string head = work.get("proof.aig");
  std::vector<std::int64_t> counts;
  std::istringstream words(head.substr(0, head.find('\n')));
  std::string format;
  words >> format;
  for (std::int64_t n; words >> n;) counts.push_back(n);
  if (counts.size() < 5) throw Error(Exit::limit, tool + " left no graph to prove");
  if (counts[3] == 0 && (counts.size() < 6 || counts[5] == 0)) {
    r.verdict = Verdict::proven;
    return r;
  }
  Process p;
  p.argv = {find("yosys").path.string() + "-abc", "-q", fmt::format("read_aiger proof.aig; fold; strash; {}scorr; pdr -T {}", commands, static_cast<int>(seconds))};
  p.folder = work.path();
  p.seconds = 2 * seconds + 30;
  r.run = p.run(cancel);
  if (r.run.timed_out) return r;
  if (!r.run.ok()) throw tool_failed(tool + "'s abc", r.run, "the proof ended early");
  constexpr std::string_view kAsserted = " was asserted in frame ";
  if (r.run.out.find("Property proved.") != std::string::npos) r.verdict = Verdict::proven;
  if (const auto at = r.run.out.find(kAsserted); at != std::string::npos) {
    r.verdict = Verdict::refuted;
    r.steps = static_cast<int>(parse_int(std::string_view(r.run.out).substr(at + kAsserted.size(), r.run.out.find('.', at) - at - kAsserted.size())).value_or(0)) + 1;
  }
  return r;
}

}  // namespace

NeverResult prove_for_ever(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top, const std::string& signal, double seconds, const Cancel& cancel) {
  require_identifier(signal);
  require_identifier(top);
  TANDEM_CHECK(!files.empty(), "a proof without a source file");
  return reach(work, read_formal(files) + fmt::format("hierarchy -check -top {0}\nproc\nflatten\nmemory_dff\nmemory_map\nopt -fast\nselect -assert-count 1 {0}/w:{1} {0}/o:* %i\nselect -assert-none {0}/o:* {0}/w:{1} %d\n", top, signal),
               "", seconds, cancel);
}

NeverResult prove_same(const WorkFolder& work, const std::string& gold, const std::string& gate, const std::string& top, double seconds, const Cancel& cancel) {
  for (const std::string& m : {gold, gate, top}) require_identifier(m);
  // Every pair of registers becomes one that both modules read; the second's is compared with it. A register keeps its value through a wire
  // (no enables inside), so what is compared follows from the cycle before alone.
  work.put("prove_same.v", "(* techmap_celltype = \"$equiv\" *)\nmodule tandem_same (input A, input B, output Y);\n  assign Y = A;\n  \\$assert same (.A(~(A ^ B)), .EN(1'b1));\nendmodule\n");
  std::string script = read_formal({gold + ".v", gate + ".v"}) + "proc\nmemory_map\nopt_clean\n";
  for (const std::string& m : {gold, gate}) script += fmt::format("rename -hide {0}/w:* {0}/t:$dff %co1:+[Q] {0}/w:* %i %d\n", m);
  script += fmt::format("equiv_make {} {} dut\nselect -assert-min 1 dut/t:$equiv\nhierarchy -top dut\n", gold, gate) + read_formal({top + ".v"}) +
            fmt::format("hierarchy -check -top {}\nproc\nflatten\ntechmap -map prove_same.v t:$equiv\nchformal -assert -skip 1\n", top);
  return reach(work, script, "orpos; strash; ", seconds, cancel);
}

}  // namespace tandem::tool
