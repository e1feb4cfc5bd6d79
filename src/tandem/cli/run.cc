#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <charconv>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "tandem/base/file.h"
#include "tandem/base/hash.h"
#include "tandem/base/nearest.h"
#include "tandem/base/parallel.h"
#include "tandem/cli/command.h"
#include "tandem/flow/explore.h"
#include "tandem/cli/topics.h"

namespace tandem::cli {
namespace {

// The front of the parser library: commands see only Options, so that one file includes it.
class AppOptions : public Options {
 public:
  explicit AppOptions(CLI::App& app) : app_(app) {}
  void argument(const std::string& n, std::string& to, const std::string& help, bool required) override {
    app_.add_option(n, to, help)->required(required)->type_name("");
    subjects.push_back(&to);
  }
  void arguments(const std::string& n, std::vector<std::string>& to, const std::string& help, bool required) override {
    app_.add_option(n, to, help)->required(required)->type_name("");
  }
  void option(const std::string& n, std::string& to, const std::string& help) override {
    app_.add_option(n, to, help)->type_name("TEXT")->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  }
  void option(const std::string& n, std::int64_t& to, const std::string& help) override {
    add(n, help, "INT", [&to](std::string_view s) { return whole(s, to); }, fmt::format("{}", to));
  }
  void option(const std::string& n, double& to, const std::string& help) override {
    add(n, help, "NUMBER", [&to](std::string_view s) { return whole(s, to); }, fmt::format("{}", to));
  }
  void option(const std::string& n, std::vector<std::string>& to, const std::string& help) override {
    app_.add_option(n, to, help)->type_name("TEXT")->allow_extra_args(false);
  }
  void flag(const std::string& n, bool& to, const std::string& help) override { app_.add_flag(n, to, help); }

  std::vector<const std::string*> subjects;  // what the command is about, as typed

  // The library's own conversion depends on the locale.
  template <class T>
  static bool whole(std::string_view s, T& to) {
    T v{};
    const auto r = std::from_chars(s.data(), s.data() + s.size(), v);
    if (r.ec != std::errc() || r.ptr != s.data() + s.size()) return false;
    to = v;
    return true;
  }
  CLI::Option* add(const std::string& n, const std::string& help, const char* type, std::function<bool(std::string_view)> read,
                   const std::string& fallback) {
    CLI::Option* o = app_.add_option(n, [read, n, type](const std::vector<std::string>& v) {
      if (!read(v.at(0))) throw bad_input("'{}' is no value for {}", v.at(0), n).expected(type[0] == 'I' ? "a whole number" : type[0] == 'N' ? "a number" : type);
      return true;
    }, help);
    o->type_name(type)->type_size(1)->expected(1);
    if (!fallback.empty()) o->default_str(fallback);
    return o;
  }

 private:
  CLI::App& app_;
};

std::uint64_t parse_bytes(std::string_view s) {
  double v = 0;
  const auto r = std::from_chars(s.data(), s.data() + s.size(), v);
  std::string_view unit = s.substr(static_cast<std::size_t>(r.ptr - s.data()));
  double factor = -1;
  if (unit.empty() || unit == "B") factor = 1;
  else if (unit == "K" || unit == "k" || unit == "KiB") factor = 1024.0;
  else if (unit == "M" || unit == "MiB") factor = 1048576.0;
  else if (unit == "G" || unit == "GiB") factor = 1073741824.0;
  else if (unit == "T" || unit == "TiB") factor = 1099511627776.0;
  if (r.ec != std::errc() || factor < 0 || !(v * factor >= 1 && v * factor < 9e18))
    throw bad_input("'{}' is no amount of memory", s).at("--memory").expected("a number with K, M, G or T, as in 4G");
  return static_cast<std::uint64_t>(v * factor);
}

void add_common(AppOptions& o, CLI::App& app, Context& c) {
  app.add_flag("--json", c.json, "One JSON document on stdout (schema: tandem schema NAME)")->group("Common options");
  o.add("--seed", "Seed of everything random", "INT", [&c](std::string_view s) { c.seed_given = true; return AppOptions::whole(s, c.seed); }, "0")->group("Common options");
  o.add("--jobs,-j", "Threads (0: all processors)", "INT", [&c](std::string_view s) { return AppOptions::whole(s, c.jobs) && c.jobs >= 0; }, "0")->group("Common options");
  app.add_option("--out,-o", c.out, "Where the result goes")->type_name("PATH")->group("Common options");
  app.add_flag("--force", c.force, "Overwrite what exists")->group("Common options");
  o.add("--memory", "Most memory a reader may take", "BYTES", [&c](std::string_view s) { c.limits.memory_bytes = parse_bytes(s); return true; }, "8G")->group("Common options");
  o.add("--table", "Tables as text, md or csv", "STYLE", [&c](std::string_view s) {
    if (s == "text") c.style = TableStyle::text;
    else if (s == "md" || s == "markdown") c.style = TableStyle::markdown;
    else if (s == "csv") c.style = TableStyle::csv;
    else throw bad_input("'{}' is no table style", s).at("--table").expected("text, md or csv");
    return true;
  }, "text")->group("Common options");
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> r;
  for (const CLI::Option* o : app.get_options()) {
    for (const std::string& l : o->get_lnames()) r.push_back("--" + l);
    for (const std::string& s : o->get_snames()) r.push_back("-" + s);
  }
  return r;
}

std::string general_help() {
  std::string s = "tandem: neural networks and the hardware that runs them, exact at every step\n\nusage: tandem COMMAND [ARGUMENTS] [OPTIONS]\n";
  std::string_view group;
  std::vector<std::string_view> groups;
  for (const Command* c : all_commands())
    if (std::find(groups.begin(), groups.end(), c->group) == groups.end()) groups.push_back(c->group);
  for (std::string_view g : groups) {
    s += fmt::format("\n{}\n", g);
    for (const Command* c : all_commands())
      if (c->group == g) s += fmt::format("  {:<10} {}\n", c->name, c->summary);
  }
  s += "\ntandem COMMAND --help    options and examples of a command\n"
       "tandem --version [--json]  versions of tandem and its libraries\n"
       "\nExit codes: 0 done, 1 the answer is no, 2 wrong use or bad input, 3 a tool is missing, 4 a limit was hit, 70 a bug of ours\n";
  return s;
}

std::string command_help(const Command& c, CLI::App& app) {
  std::string s = app.help();
  s += "\nExamples:\n";
  for (const Example& e : c.examples) s += fmt::format("  {}\n", e.command);
  return s;
}

[[noreturn]] void stdout_failed() {
  if (errno == EPIPE) {  // the reader left: end as every other program in a pipe does
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  throw Error(Exit::limit, fmt::format("stdout cannot be written: {}", std::strerror(errno)))
      .fix("free some space, or name another place with --out");
}

void write_stdout(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) stdout_failed();
}

void flush_stdout() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) stdout_failed();
}

void print_error(const Error& e, bool color) {
  const Topic* topic = topic_of(e);
  const std::string s = fmt::format("{}tandem: error:{} {}\n{}", color ? "\x1b[1;31m" : "", color ? "\x1b[0m" : "", e.full(),
                                    topic ? fmt::format("  more:     tandem explain {}\n", topic->name) : "");
  std::fwrite(s.data(), 1, s.size(), stderr);
}

// A bug of ours: what is needed to look into it goes to a file in the cache.
void report_bug(const std::string& what, const std::vector<std::string>& args, bool color) {
  std::string text = fmt::format("{}\n{}\ncommand: tandem", what, version_text(false));
  for (const std::string& a : args) text += " " + json_string(a);
  text += "\n";
  std::string place;
  try {
    const char* xdg = std::getenv("XDG_CACHE_HOME");
    const char* home = std::getenv("HOME");
    if ((xdg && *xdg) || (home && *home)) {
      const std::filesystem::path folder = (xdg && *xdg ? std::filesystem::path(xdg) : std::filesystem::path(home) / ".cache") / "tandem" / "reports";
      std::filesystem::create_directories(folder);
      const std::filesystem::path file = folder / fmt::format("bug-{}.txt", hex16(fnv1a(text)));
      write_file(file, text);
      place = file.string();
    }
  } catch (const std::exception&) {  // the message below is what counts
  }
  print_error(Error(Exit::bug, what).fix(place.empty() ? "this is a defect of tandem: please report it with the command you ran"
                                                       : "this is a defect of tandem: please report it with the file " + place),
              color);
}

// An engine names a node of the graph it was given; only the command knows which file that came from.
void name_file(Error& e, const std::vector<const std::string*>& subjects) {
  const std::string& at = e.where();
  const bool in_graph = [&] {
    for (const char* kind : {"node ", "layer ", "value ", "input ", "output ", "initialiser "})
      if (at.rfind(kind, 0) == 0) return true;
    return at.find(" node of value '") != std::string::npos;
  }();
  std::error_code ignored;
  if (in_graph && !subjects.empty() && std::filesystem::is_regular_file(*subjects[0], ignored)) e.at(*subjects[0] + ": " + at);
  if (in_graph && e.expected().empty() && e.fix().empty()) e.fix("`tandem doctor` on the model lists every node that an engine refuses, and why");
}

struct Typed {
  std::string command;
  std::vector<std::string> rest;  // without the command's name
};

// The command is the first word that is neither an option nor the value of a common option.
Typed split(const std::vector<std::string>& args) {
  Typed t;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string& a = args[i];
    if (!t.command.empty() || (!a.empty() && a[0] == '-')) {
      t.rest.push_back(a);
      if (t.command.empty() && i + 1 < args.size() &&
          (a == "--seed" || a == "--jobs" || a == "-j" || a == "--out" || a == "-o" || a == "--memory" || a == "--table"))
        t.rest.push_back(args[++i]);
    } else {
      t.command = a;
    }
  }
  return t;
}

int run(const std::vector<std::string>& args, Context& context) {
  // Not for people: what `explore` runs in its children.
  if (args.size() == 1 && args[0] == "explore-worker") return flow::explore_worker();
  Typed typed = split(args);
  const auto given = [&](const char* a) {
    const auto end = std::find(typed.rest.begin(), typed.rest.end(), "--");
    return std::find(typed.rest.begin(), end, a) != end;
  };
  if (typed.command.empty()) {
    if (given("--version")) {
      write_stdout(version_text(given("--json")));
      flush_stdout();
      return 0;
    }
    for (const std::string& a : typed.rest)
      if (a != "--help" && a != "-h") throw bad_input("unknown option '{}'", a).fix(suggest(a, {"--version", "--help", "--json"}));
    write_stdout(general_help());
    flush_stdout();
    return args.empty() ? static_cast<int>(Exit::bad_input) : 0;
  }
  if (typed.command == "help") {
    if (typed.rest.empty()) {
      write_stdout(general_help());
      flush_stdout();
      return 0;
    }
    typed.command = typed.rest[0];
    typed.rest = {"--help"};
  }
  const Command* command = nullptr;
  std::vector<std::string> names;
  for (const Command* c : all_commands()) {
    names.emplace_back(c->name);
    if (c->name == typed.command) command = c;
  }
  if (!command)
    throw bad_input("unknown command '{}'", typed.command).fix(suggest(typed.command, names) + " (tandem --help lists all)");

  CLI::App app{std::string(command->description.empty() ? command->summary : command->description), fmt::format("tandem {}", command->name)};
  app.set_help_flag();  // help is ours, with examples
  bool help = false;
  app.add_flag("--help,-h", help, "This text")->group("Common options");
  app.allow_extras();
  AppOptions options(app);
  const Run body = command->setup(options);
  add_common(options, app, context);
  if (given("--help") || given("-h")) {
    write_stdout(command_help(*command, app));
    flush_stdout();
    return 0;
  }
  try {
    std::vector<std::string> reversed(typed.rest.rbegin(), typed.rest.rend());
    app.parse(reversed);
  } catch (const CLI::ParseError& e) {
    // An unknown option explains a missing argument better than the other way round.
    for (const std::string& a : typed.rest) {
      if (a == "--") break;
      const std::string name = a.substr(0, a.find('='));
      const std::vector<std::string> known = option_names(app);
      if (a.size() > 2 && a.compare(0, 2, "--") == 0 && std::find(known.begin(), known.end(), name) == known.end())
        throw bad_input("unknown option '{}' of '{}'", name, command->name).fix(suggest(name, known));
    }
    throw bad_input("{}", e.what()).at(fmt::format("tandem {}", command->name)).fix(fmt::format("tandem {} --help shows arguments and examples", command->name));
  }
  std::vector<std::string> left = app.remaining();
  if (const auto marker = std::find(left.begin(), left.end(), "--"); marker != left.end()) left.erase(marker);  // "what follows is no option"
  if (!left.empty()) {
    const std::string name = left[0].substr(0, left[0].find('='));
    if (name.size() > 1 && name[0] == '-') throw bad_input("unknown option '{}' of '{}'", name, command->name).fix(suggest(name, option_names(app)));
    throw bad_input("unexpected argument '{}' of '{}'", left[0], command->name).fix(fmt::format("tandem {} --help shows arguments and examples", command->name));
  }
  ThreadBudget::set(context.jobs);
  context.to_file = !context.out.empty() && !command->own_out;
  if (context.to_file && !context.force && std::filesystem::exists(std::filesystem::symlink_status(context.out)))
    throw bad_input("'{}' exists", context.out).at("--out").fix("--force overwrites it");
  Exit code{};
  try {
    code = body(context);
  } catch (Error& e) {
    if (e.code() == Exit::bad_input || e.code() == Exit::no) name_file(e, options.subjects);
    throw;
  }
  if (context.to_file) write_file(context.out, context.collected, context.force);
  flush_stdout();
  return static_cast<int>(code);
}

}  // namespace

void Context::print(std::string_view text) {
  if (to_file) collected += text;
  else write_stdout(text);
}

void Context::note(std::string_view line) const {
  const std::string s = printable(line) + "\n";
  std::fwrite(s.data(), 1, s.size(), stderr);
}

int main(int argc, const char* const* argv) {
  static Cancel cancel;  // signal handlers refer to it until the process ends
  std::signal(SIGPIPE, SIG_IGN);
  cancel_on_signals(cancel);
  Context context;
  context.cancel = &cancel;
  const char* no_color = std::getenv("NO_COLOR");
  context.color = isatty(2) && !(no_color && *no_color);
  winsize w{};
  if (isatty(1) && ioctl(1, TIOCGWINSZ, &w) == 0) context.width = w.ws_col;
  const std::vector<std::string> args(argv + (argc > 0 ? 1 : 0), argv + argc);
  context.command = "tandem";
  for (const std::string& a : args) context.command += " " + printable(shell_word(a));
  try {
    return run(args, context);
  } catch (const Error& e) {
    if (e.code() == Exit::bug) report_bug(e.message() + (e.where().empty() ? "" : "\nat " + e.where()), args, context.color);
    else print_error(e, context.color);
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    print_error(Error(Exit::limit, "out of memory").fix("a smaller input, or more memory"), context.color);
    return static_cast<int>(Exit::limit);
  } catch (const std::filesystem::filesystem_error& e) {
    print_error(bad_input("{}", e.code().message()).at(e.path1().string()).fix("choose another path"), context.color);
    return static_cast<int>(Exit::bad_input);
  } catch (const std::exception& e) {
    report_bug(fmt::format("unexpected: {}", e.what()), args, context.color);
  } catch (...) {
    report_bug("unexpected exception of unknown type", args, context.color);
  }
  return static_cast<int>(Exit::bug);
}

}  // namespace tandem::cli
