#include "tandem/cli/describe.h"

#include <algorithm>

#include "tandem/cli/topics.h"
#include "tandem/hardware/target.h"
#include "tandem/ir/op.h"

namespace tandem::cli {
namespace {

std::vector<std::string> split_names(const std::string& s) {
  std::vector<std::string> r;
  for (std::size_t i = 0; i <= s.size();) {
    const std::size_t end = std::min(s.find(',', i), s.size());
    r.push_back(s.substr(i, end - i));
    i = end + 1;
  }
  return r;
}

class Collector : public Options {
 public:
  CommandDoc doc;
  void argument(const std::string& n, std::string&, const std::string& help, bool required) override { doc.arguments.push_back({{n}, "", help, required, false}); }
  void arguments(const std::string& n, std::vector<std::string>&, const std::string& help, bool required) override { doc.arguments.push_back({{n}, "", help, required, true}); }
  void option(const std::string& n, std::string&, const std::string& help) override { add(n, "TEXT", help); }
  void option(const std::string& n, std::int64_t&, const std::string& help) override { add(n, "INT", help); }
  void option(const std::string& n, double&, const std::string& help) override { add(n, "NUMBER", help); }
  void option(const std::string& n, std::vector<std::string>&, const std::string& help) override { add(n, "TEXT", help), doc.options.back().repeated = true; }
  void flag(const std::string& n, bool&, const std::string& help) override { add(n, "", help); }

 private:
  void add(const std::string& n, const char* value, const std::string& help) { doc.options.push_back({split_names(n), value, help, false, false}); }
};

bool plain_word(const std::string& s) {
  return !s.empty() && s[0] != '-' && std::all_of(s.begin(), s.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '+';
  });
}

std::string join(const std::vector<std::string>& v, std::string_view by) {
  std::string r;
  for (const std::string& s : v) r += (r.empty() ? "" : std::string(by)) + s;
  return r;
}

// In single quotes for a shell.
std::string shell_quoted(std::string_view s) {
  std::string r = "'";
  for (char c : s) {
    if (c == '\'') r += "'\\''";
    else r += c;
  }
  return r + "'";
}
// Inside a spec of zsh's _arguments: [help] and :message: have their own special characters.
std::string zsh_text(std::string_view s) {
  std::string r;
  for (char c : s) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') r += '\\';
    r += c;
  }
  return r;
}
// Text for roff: no line starts a request, no backslash an escape, a hyphen stays one.
std::string roff(std::string_view s) {
  std::string r;
  bool start = true;
  for (char c : s) {
    if (start && (c == '.' || c == '\'')) r += "\\&";
    if (c == '\\') r += "\\e";
    else if (c == '-') r += "\\-";
    else r += c;
    start = c == '\n';
  }
  return r;
}

std::string all_option_words(const CommandDoc& d) {
  std::vector<std::string> w;
  for (const auto* list : {&d.options, &common_options()})
    for (const OptionDoc& o : *list) w.insert(w.end(), o.names.begin(), o.names.end());
  return join(w, " ");
}

}  // namespace

CommandDoc describe(const Command& c) {
  Collector k;
  c.setup(k);  // the closure it returns is dropped: nothing runs
  k.doc.command = &c;
  return k.doc;
}

const std::vector<OptionDoc>& common_options() {
  static const std::vector<OptionDoc> list{
      {{"--json"}, "", "One JSON document on stdout (schema: tandem schema NAME)"},
      {{"--seed"}, "INT", "Seed of everything random"},
      {{"--jobs", "-j"}, "INT", "Threads (0: all processors)"},
      {{"--out", "-o"}, "PATH", "Where the result goes"},
      {{"--force"}, "", "Overwrite what exists"},
      {{"--memory"}, "BYTES", "Most memory a reader may take"},
      {{"--table"}, "STYLE", "Tables as text, md or csv"},
      {{"--help", "-h"}, "", "Options and examples of the command"},
  };
  return list;
}

std::vector<std::string> words_for(const Command& c, const OptionDoc& o) {
  const std::string& n = o.names[0];
  std::vector<std::string> w;
  if (n == "--target" || (c.name == "targets" && n == "NAME")) {
    try {
      for (const hardware::Target& t : hardware::all_targets()) {
        w.push_back(t.name);
        w.insert(w.end(), t.aliases.begin(), t.aliases.end());
      }
    } catch (const Error&) {  // no targets here: file names then
    }
  } else if (n == "--table") {
    w = {"text", "md", "csv"};
  } else if (c.name == "ops" && n == "NAME") {
    for (const ir::OpDef* d : ir::all_ops())
      if (d->domain != "tandem" || d->name == "Threshold" || d->name == "Delay") w.emplace_back(d->name);
  } else if (c.name == "schema" && n == "NAME") {
    for (const Command* x : all_commands())
      if (!x->schema.empty()) w.emplace_back(x->name);
  } else if (c.name == "explain" && n == "TOPIC") {
    for (const Topic& t : topics()) w.emplace_back(t.name);
  } else if (c.name == "completion" && n == "SHELL") {
    w = {"bash", "zsh"};
  }
  w.erase(std::remove_if(w.begin(), w.end(), [](const std::string& s) { return !plain_word(s); }), w.end());
  return w;
}

std::string bash_completion() {
  std::vector<std::string> names{"help"};
  std::string options, values, arguments;
  for (const Command* c : all_commands()) {
    names.emplace_back(c->name);
    const CommandDoc d = describe(*c);
    options += fmt::format("    {}) options={} ;;\n", c->name, shell_quoted(all_option_words(d)));
    for (const auto* list : {&d.options, &common_options()})
      for (const OptionDoc& o : *list) {
        if (o.value.empty()) continue;
        const std::vector<std::string> w = words_for(*c, o);
        std::vector<std::string> patterns;
        for (const std::string& n : o.names) patterns.push_back(fmt::format("{}:{}", c->name, n));
        values += fmt::format("    {}) words={}; value=1 ;;\n", join(patterns, "|"), shell_quoted(join(w, " ")));
      }
    if (!d.arguments.empty())
      if (const std::vector<std::string> w = words_for(*c, d.arguments[0]); !w.empty()) arguments += fmt::format("    {}) words={} ;;\n", c->name, shell_quoted(join(w, " ")));
  }
  return fmt::format(R"(# bash completion for tandem {}. Written by `tandem completion bash`.
_tandem() {{
  local cur prev command='' options='' words='' value=0 i
  COMPREPLY=()
  cur=${{COMP_WORDS[COMP_CWORD]}}
  prev=${{COMP_WORDS[COMP_CWORD-1]}}
  # "--target=up" arrives as three words.
  if [[ $cur == = ]]; then cur=''; elif [[ $prev == = ]]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in
      --seed|--jobs|-j|--out|-o|--memory|--table) [[ -z $command ]] && ((i++)) ;;
      -*|=) ;;
      *) [[ -z $command ]] && command=${{COMP_WORDS[i]}} ;;
    esac
  done
  local commands={}
  if [[ -z $command || $command == help ]]; then
    [[ $cur == -* ]] && commands='--help --version'
    COMPREPLY=($(compgen -W "$commands" -- "$cur"))
    return
  fi
  case $command in
{}  esac
  case $command:$prev in
{}  esac
  if ((value)); then
    [[ -n $words ]] && COMPREPLY=($(compgen -W "$words" -- "$cur"))
    return  # nothing: bash offers file names
  fi
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
    return
  fi
  case $command in
{}  esac
  [[ -n $words ]] && COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _tandem tandem
)", TANDEM_VERSION, shell_quoted(join(names, " ")), options, values, arguments);
}

std::string zsh_completion() {
  std::string commands, cases;
  for (const Command* c : all_commands()) {
    commands += fmt::format("    {}\n", shell_quoted(fmt::format("{}:{}", c->name, c->summary)));
    const CommandDoc d = describe(*c);
    cases += fmt::format("        {})\n          _arguments \\\n", c->name);
    for (const auto* list : {&d.options, &common_options()})
      for (const OptionDoc& o : *list)
        for (const std::string& n : o.names) {
          std::string spec = fmt::format("{}{}[{}]", o.repeated ? "*" : "", n, zsh_text(o.help));
          if (!o.value.empty()) {
            const std::vector<std::string> w = words_for(*c, o);
            spec += fmt::format(":{}:{}", zsh_text(o.value), w.empty() ? o.value == "INT" || o.value == "NUMBER" || o.value == "BYTES" ? "" : "_files" : "(" + join(w, " ") + ")");
          }
          cases += fmt::format("            {} \\\n", shell_quoted(spec));
        }
    for (const OptionDoc& a : d.arguments) {
      const std::vector<std::string> w = words_for(*c, a);
      cases += fmt::format("            {} \\\n", shell_quoted(fmt::format("{}:{}:{}", a.repeated ? "*" : a.required ? "" : ":", zsh_text(a.names[0]), w.empty() ? "_files" : "(" + join(w, " ") + ")")));
    }
    cases += "            && return 0\n          ;;\n";
  }
  return fmt::format(R"(#compdef tandem
# zsh completion for tandem {}. Written by `tandem completion zsh`.
_tandem() {{
  local context state line
  local -a commands
  commands=(
{}  )
  _arguments -C '--help[all commands]' '--version[version]' '1:command:->command' '*::argument:->argument' && return 0
  case $state in
    command) _describe 'command' commands ;;
    argument)
      case $words[1] in
{}      esac
      ;;
  esac
}}
_tandem "$@"
)", TANDEM_VERSION, commands, cases);
}

std::string man_page() {
  std::string s = fmt::format(".TH TANDEM 1 \"\" \"tandem {}\" \"User Commands\"\n.SH NAME\ntandem \\- neural networks and the hardware that runs them, exact at every step\n"
                              ".SH SYNOPSIS\n.B tandem\n.I COMMAND\n[\n.I ARGUMENTS\n] [\n.I OPTIONS\n]\n.br\n.B tandem \\-\\-version\n[\n.B \\-\\-json\n]\n", TANDEM_VERSION);
  s += ".SH DESCRIPTION\n" + roff("A quantised network is trained or read (ONNX, QONNX), its meaning is fixed to the last bit, and it becomes streaming Verilog that is compared "
                                  "with that meaning word by word, synthesised, placed and routed. Results go to stdout or to --out, everything else to stderr.\n");
  s += ".SH COMMANDS\n";
  const auto option = [](const OptionDoc& o) {
    std::string names;
    for (const std::string& n : o.names) names += (names.empty() ? "\\fB" : ", \\fB") + roff(n) + "\\fR";
    return fmt::format(".TP\n{}{}\n{}\n", names, o.value.empty() ? "" : " \\fI" + roff(o.value) + "\\fR", roff(o.help));
  };
  for (const Command* c : all_commands()) {
    const CommandDoc d = describe(*c);
    std::string use = "\\fBtandem " + roff(c->name) + "\\fR";
    for (const OptionDoc& a : d.arguments) {
      const std::string name = "\\fI" + roff(a.names[0]) + "\\fR" + (a.repeated ? " ..." : "");
      use += a.required ? " " + name : " [" + name + "]";
    }
    s += fmt::format(".SS {}\n{}\n.PP\n{}\n", use, roff(c->summary) + ".", roff(c->description));
    for (const OptionDoc& a : d.arguments) s += option(a);
    for (const OptionDoc& o : d.options) s += option(o);
    s += ".PP\nExamples:\n.PP\n.nf\n.RS\n";
    for (const Example& e : c->examples) s += roff(e.command) + "\n";
    s += ".RE\n.fi\n";
  }
  s += ".SH COMMON OPTIONS\n";
  for (const OptionDoc& o : common_options()) s += option(o);
  s += ".SH EXIT STATUS\n.nf\n" + roff(topics()[0].page) + ".fi\n";
  s += ".SH ENVIRONMENT\n";
  for (const auto& [name, text] : {std::pair("NO_COLOR", "no colour in messages"), {"TANDEM_SHARE", "the folder of shipped files; by default found beside the program"},
                                   {"TANDEM_TARGETS", "the folder of target descriptions"}, {"XDG_CACHE_HOME", "where the cache and the reports of bugs go, in tandem/; default ~/.cache"}})
    s += fmt::format(".TP\n.B {}\n{}\n", name, roff(text));
  s += ".SH FILES\n" + roff("Models: ONNX and QONNX. Arrays: .npz, .npy. Recipes, studies and targets: YAML. `tandem explain` has a page on each.\n");
  return s;
}

}  // namespace tandem::cli
