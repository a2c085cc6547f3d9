// The generations under way, by the ids that clients know them by.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace bifocal::server {

class Generation;

// An id names a whole generation, or one prompt of its batch.
struct LiveName {
  std::string id;
  int prompt = -1;  // -1: all of it
};

class LiveRequests {
 public:
  struct Found {
    std::shared_ptr<Generation> generation;
    int prompt = -1;
  };

  // All names or none. False when one is taken.
  bool add(const std::vector<LiveName>& names, int client, const std::shared_ptr<Generation>& generation);
  void remove(const std::vector<LiveName>& names);
  // Null unless it lives and belongs to that client.
  Found find(const std::string& id, int client) const;
  // Those of one client, or of all with kEveryone; each once.
  static constexpr int kEveryone = -2;
  std::vector<std::shared_ptr<Generation>> all(int client) const;
  bool empty() const;

 private:
  struct Entry {
    int client = -1;
    int prompt = -1;
    std::shared_ptr<Generation> generation;
  };
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace bifocal::server
