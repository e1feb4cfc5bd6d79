// How deep the queues in front of joins must be: no deeper than that, and no cycle is lost.
//
// A join (add, product) takes one beat of each operand at once, a concat runs of each in turn. Where its operands come from
// one fork, the shorter branch must be able to hold what the fork sends while the longer one makes its first beat, or the
// fork stands still: for ever, or for part of every frame.
//
// Closed form: against standing still for ever, a shorter branch that is nothing but its queue must hold as many beats of
// the fork as the longer one takes in before it gives one, the `needs` of its stages multiplied up (queue_bounds). That is a
// lower bound. What full speed needs beyond it depends on when the rows of the longer branch come (padding, strides,
// windows sent more than once, a slower stage behind the join): no closed form, so it is found with the stages' twins
// (plan/timing):
// 1. between a join and the fork that dominates it, then with the block before and the block behind as well, with an eager
//    source and an eager sink: the least depths at which this part alone keeps the frame interval of the slowest stage. A real
//    source or sink is never more eager, so none can be less;
// 2. all of them in the whole design. As a rule it runs at full rate, and then each depth is minimal;
// 3. else the first queue (in stream order) that costs a cycle while all behind it are unlimited grows as far as needed.
// Several joins: minimal coordinate by coordinate in stream order, operand 0 before operand 1; one beat less in any one
// queue makes the interval longer. A queue holds at least one beat.
#pragma once
#include <span>
#include <vector>

#include "tandem/plan/stages.h"

namespace tandem::map {

struct QueueStats {
  std::int64_t queues = 0, simulations = 0, blocks = 0;  // blocks: different ones, each searched once
  bool whole = true;                                     // step 2 sufficed
};
// Room: the depths are the least ones only while beats follow each other without gaps: a pipeline whose registers share one enable, stopped
// with gaps inside, holds fewer beats than it has registers, and a branch that counted on them could stand still for ever. So where the
// other branch holds beats back (a window, a whole frame, a concat that reads the other's run) a queue gets the registers of its own branch on top.
enum class Room { least, for_gaps };
// Sets Fold::queues of every join of `f`; those it has already are not looked at. Without joins nothing is done. Where
// the design is too large to step (TimingOptions::steps) the queues stay at a frame.
void size_queues(const plan::StageGraph& g, plan::Folding& f, QueueStats* stats = nullptr, Room room = Room::for_gaps);

// A fifo of this depth or more has no limit.
inline constexpr std::int64_t kUnlimited = std::int64_t{1} << 40;
struct Rate {
  std::int64_t cycles = 0, frames = 0;  // so many cycles for so many frames; 0 frames: it stands still
  bool known = true;                    // not too large to step
  bool slower(const Rate& o) const { return frames == 0 || cycles * o.frames > o.cycles * frames; }
};
// In steady state. Where a queue without a limit is all that joins two pieces of a design, it is as fast as the slower of
// them, each with eager sources and sinks.
Rate steady_rate(std::span<const plan::StageShape> stages);

// The fifo stages in front of joins, in stream order.
std::vector<std::size_t> join_queues(std::span<const plan::StageShape> stages);
// The closed form for each of them: beats below which the design stands still for ever. At least 1.
std::vector<std::int64_t> queue_bounds(std::span<const plan::StageShape> stages);

}  // namespace tandem::map
