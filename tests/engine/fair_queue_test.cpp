#include "engine/fair_queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace bifocal::engine {
namespace {

class FairQueueTest : public testing::Test {
 protected:
  void push(RequestKey key, uint64_t cache_namespace, int forks = 0) {
    auto sequence = std::make_unique<Sequence>(pool_);
    sequence->key = {key, 0};
    sequence->cache_namespace = cache_namespace;
    sequence->num_forks = forks;
    queue_.push(std::move(sequence));
  }
  // Serves the next one with this many prompt tokens; it ends at once.
  RequestKey serve(int64_t tokens) {
    const auto sequence = queue_.pop_front();
    queue_.charge_prompt(sequence->cache_namespace, tokens);
    queue_.leave(sequence->cache_namespace);
    return sequence->key.request;
  }

  kv::PagePool pool_{1, 1};
  FairQueue queue_;
};

TEST_F(FairQueueTest, OneClassIsFirstComeFirstServed) {
  for (RequestKey key = 0; key < 5; ++key) push(key, 7);
  for (RequestKey key = 0; key < 5; ++key) EXPECT_EQ(serve(100 * static_cast<int64_t>(5 - key)), key);
  EXPECT_TRUE(queue_.empty());
  EXPECT_EQ(queue_.front(), nullptr);
}

TEST_F(FairQueueTest, AReturningSequenceKeepsItsPlace) {
  push(1, 0);
  push(2, 0);
  auto first = queue_.pop_front();
  push(3, 0);
  queue_.push(std::move(first));
  queue_.leave(0);
  EXPECT_EQ(serve(1), 1U);
  EXPECT_EQ(serve(1), 2U);
  EXPECT_EQ(serve(1), 3U);
}

TEST_F(FairQueueTest, ABurstOfOneClassDoesNotHoldUpAnother) {
  for (RequestKey key = 0; key < 32; ++key) push(key, 1);
  EXPECT_EQ(serve(100), 0U);
  push(100, 2);
  push(101, 2);
  EXPECT_EQ(serve(100), 1U);    // equal service so far: the older goes first
  EXPECT_EQ(serve(100), 100U);  // now the newcomer was served less
  EXPECT_EQ(serve(50), 2U);
  EXPECT_EQ(serve(50), 101U);
}

TEST_F(FairQueueTest, IdleTimeIsNoCredit) {
  push(0, 1);
  push(1, 1);
  push(2, 1);
  EXPECT_EQ(serve(1000), 0U);
  EXPECT_EQ(serve(1000), 1U);
  push(10, 2);  // starts level with the waiting class, not at zero
  push(11, 2);
  EXPECT_EQ(queue_.service(2), 2000);
  EXPECT_EQ(serve(10), 2U);
  push(20, 1);
  EXPECT_EQ(serve(10), 10U);
  EXPECT_EQ(serve(10), 20U);
}

TEST_F(FairQueueTest, NobodyStarves) {
  // Class 1 keeps arriving with small requests; the one of class 2 is served after finitely many.
  push(1000, 2);
  const auto head = queue_.pop_front();
  queue_.charge_prompt(2, 500);
  push(1001, 2);
  queue_.leave(2);
  int before = 0;
  for (RequestKey key = 0; key < 200; ++key) {
    push(key, 1);
    push(key + 2000, 1);
    if (serve(10) == 1001) break;
    ++before;
  }
  EXPECT_LE(before, 51);
}

TEST_F(FairQueueTest, CountsChoicesAndRemovesARequest) {
  push(1, 0, 3);
  push(2, 1);
  EXPECT_EQ(queue_.num_slots(), 5);
  EXPECT_EQ(queue_.num_sequences(), 2U);
  EXPECT_EQ(queue_.remove(1).size(), 1U);
  EXPECT_TRUE(queue_.remove(1).empty());
  EXPECT_EQ(queue_.num_slots(), 1);
  EXPECT_EQ(queue_.front()->key.request, 2U);
}

}  // namespace
}  // namespace bifocal::engine
