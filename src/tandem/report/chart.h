// Charts as static SVG, drawn here: they need no interpreter in the page, print, and hold a strict content
// security policy. Every function takes plain data and returns the picture with the table it shows.
// Values that are not finite are left out and the note says how many. Same data, same bytes.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tandem/base/metric.h"

namespace tandem::report {

struct Cell {
  std::string text;
  std::optional<double> value;   // what it sorts by and what the CSV gets; else the text
  std::string href;              // an address made by link() or "#id"; empty: none
  std::string mark;              // a class of the page's style: "bad", "good", "muted", "code"
  Cell() = default;
  Cell(std::string t) : text(std::move(t)) {}
  Cell(const char* t) : text(t) {}
  Cell(double v, std::string t) : text(std::move(t)), value(v) {}
};
Cell number_cell(double v, std::string_view unit = "");
struct Grid {
  struct Column {
    std::string name;
    bool right = false;          // numbers
    std::string note = {};       // what it means; a tooltip
  };
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
  std::vector<std::string> ids;  // of rows, for links; empty or as many as rows
  std::vector<Cell> foot;
};

struct Chart {
  std::string id;                // unique in the page
  std::string title;
  std::string summary;           // what is to be seen, in a sentence; also for screen readers
  std::string svg;
  Grid table;
  std::string note;              // decimation, values left out; empty: none
  bool wide = false;             // takes the whole width of the page
};

// ---- axes ----------------------------------------------------------------------------------------
struct Scale {
  double lo = 0, hi = 1;
  bool log = false;
  double at(double v) const;     // 0..1 within the range
};
// The range of data with room at its ends: a single value gets a range around it, an axis that nearly reaches 0
// starts there. `log` where the data are positive and span two decades or more, unless told.
Scale scale_for(double lo, double hi, std::optional<bool> log = {}, bool from_zero = false);
// Ticks that people would choose: steps of 1, 2 or 5 (log: decades, with 2 and 5 where there are few), inside the
// range, ascending, at least two.
std::vector<double> ticks(const Scale& s, int about = 5);
// Labels of these ticks, of equal precision: 0.25, 0.50; 20k; 1.5M; 1e-7.
std::vector<std::string> tick_labels(const std::vector<double>& at);

// ---- chart types ---------------------------------------------------------------------------------
struct AxisOf {
  std::string label, unit;
  bool maximise = false;         // which way is better; drawn as an arrow in the label where `goal`
  bool goal = false;
  std::optional<bool> log;
};
struct Point {
  double x = 0, y = 0;
  std::optional<double> x_low, x_high, y_low, y_high;  // error bars
  Fidelity fidelity = Fidelity::estimated;             // the marker's shape
  bool front = true;             // else part of the cloud, drawn small and decimated
  bool feasible = true;
  std::string label;             // tooltip, without the coordinates
  std::string row;               // id of the table's row that a click shows; empty: none
};
struct Guide {                   // a bound or a budget
  bool vertical = false;
  double at = 0;
  std::string label;
};
struct Scatter {
  std::string id, title, summary;
  AxisOf x, y;
  std::vector<Point> points;
  std::vector<Guide> guides;
  bool front_line = true;        // the staircase through the best of the front
};
Chart draw(const Scatter& s);

// The marker of each fidelity differs by shape, not by colour alone.
std::string marker(Fidelity f, double x, double y, double size);

struct Bar {
  std::string label, tip, row;
  double value = 0;
  std::string text;              // at the bar's end
  int series = 0;                // 0..5: colour and pattern of the legend
  bool marked = false;           // the one to look at
};
struct Bars {                    // horizontal; consecutive bars of one label form a group
  std::string id, title, summary, unit;
  std::vector<std::string> series;  // legend; empty: none
  std::vector<Bar> bars;
  std::optional<Guide> limit;    // a vertical line, for example 100 % of the budget
  std::optional<double> max;     // the axis ends there at least
};
Chart draw(const Bars& b);

struct Ratio {                   // an estimate beside what a tool found
  std::string name, unit;
  double estimate = 0, actual = 0;
  Fidelity estimated = Fidelity::estimated, found = Fidelity::synthesised;
};
struct Ratios {
  std::string id, title, summary;
  std::vector<Ratio> ratios;
};
Chart draw(const Ratios& r);

struct Distribution {            // the integers of one layer against the range of their format
  std::string layer, format;
  double lo = 0, hi = 0;         // the format's range, in codes
  double seen_lo = 0, seen_hi = 0;
  std::int64_t n = 0;            // values
  std::vector<std::int64_t> counts;  // equal bins over [lo, hi + 1)
  std::optional<double> clipped, flushed;  // shares 0..1: beyond the range; rounded to zero though not zero
};
struct Precision {
  std::string id, title, summary;
  std::vector<Distribution> layers;
};
Chart draw(const Precision& p);

struct Signal {
  std::string name;
  int bits = 1;                  // 1: a level; more: a bus whose values are written
  std::vector<std::optional<std::int64_t>> values;  // one per cycle; nullopt: not valid
};
struct Waveform {
  std::string id, title, summary;
  std::int64_t first_cycle = 0;
  std::vector<Signal> signals;
};
Chart draw(const Waveform& w);

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;
};
struct Lines {                   // convergence, curves
  std::string id, title, summary;
  AxisOf x, y;
  std::vector<Series> series;
  bool steps = false;            // the value holds until the next point
};
Chart draw(const Lines& l);

struct Roof {
  std::string name;
  bool bandwidth = false;        // slope: value is y per x; else a flat roof of that height
  double value = 0;
};
struct Roofline {                // log-log: work per byte against work per time
  std::string id, title, summary;
  AxisOf x, y;
  std::vector<Roof> roofs;
  std::vector<Point> points;
};
Chart draw(const Roofline& r);

struct ParallelAxis {
  std::string name;
  std::vector<std::string> values;  // texts of a parameter, or empty for an axis of numbers
  bool maximise = false, goal = false;
};
struct ParallelLine {
  std::vector<double> at;        // per axis: the number, or the index into values; NaN: the line is broken
  bool front = false;
  std::string label, row;
};
struct Parallel {
  std::string id, title, summary;
  std::vector<ParallelAxis> axes;
  std::vector<ParallelLine> lines;
};
Chart draw(const Parallel& p);

}  // namespace tandem::report
