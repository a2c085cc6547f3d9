// Waiting sequences: first come, first served within a class, fair between classes. A class is a cache
// namespace, so one API key's burst doesn't hold up another's.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "engine/sequence.h"

namespace bifocal::engine {

// Next comes the class that was served least, by the Virtual Token Counter (Sheng et al., "Fairness in
// Serving Large Language Models", OSDI 2024): each class counts the tokens it was served, prompt tokens once
// and output tokens twice; a class that joins is lifted to the least of the waiting ones, so that idle time
// is no credit. Nobody starves: a waiting class's counter stands still while the others' grow. With one class
// this is a plain FIFO.
class FairQueue {
 public:
  // Sequences of a class stand in order of their keys: a retracted one goes back to where it came from.
  void push(std::unique_ptr<Sequence> sequence);
  Sequence* front() const;  // null when empty
  // The sequence now counts as running until leave(); one that is pushed back leaves as well.
  std::unique_ptr<Sequence> pop_front();
  // Removes the waiting choices of a request and returns them.
  std::vector<std::unique_ptr<Sequence>> remove(RequestKey request);

  void charge_prompt(uint64_t cache_namespace, int64_t tokens) { charge(cache_namespace, tokens); }
  void charge_output(uint64_t cache_namespace, int64_t tokens) { charge(cache_namespace, 2 * tokens); }
  int64_t service(uint64_t cache_namespace) const;

  // Running sequences keep their class's counter alive. enter() is for one that never waited (a branch).
  void enter(uint64_t cache_namespace) { ++classes_[cache_namespace].running; }
  void leave(uint64_t cache_namespace);

  bool empty() const { return size_ == 0; }
  size_t num_sequences() const { return size_; }
  int num_slots() const { return num_slots_; }  // choices, those still to branch off included

 private:
  struct Class {
    int64_t service = 0;  // weighted tokens
    int running = 0;
    std::map<SequenceKey, std::unique_ptr<Sequence>> waiting;
  };
  using Classes = std::map<uint64_t, Class>;

  void charge(uint64_t cache_namespace, int64_t weighted_tokens);
  Classes::const_iterator next() const;
  void drop_if_unused(uint64_t cache_namespace);

  Classes classes_;
  int64_t last_served_ =
      0;  // counter of the class that was served last: where a newcomer to an empty queue starts
  size_t size_ = 0;
  int num_slots_ = 0;
};

}  // namespace bifocal::engine
