#include "core/processors.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <thread>

#include "core/error.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace ranvier {
namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

// v2: cpu.max holds "quota period" or "max period". v1: one file each, quota -1 for none.
double quota_in(const std::string& folder) {
  double quota = 0, period = 0;
  if (std::ifstream(folder + "/cpu.max") >> quota >> period && period > 0) return quota / period;
  std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : kUnlimited;
}

int allowed_cores() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      std::string siblings = std::to_string(cpu);  // where the kernel does not tell, a core of its own
      std::getline(std::ifstream(concat("/sys/devices/system/cpu/cpu", cpu, "/topology/thread_siblings_list")),
                   siblings);
      cores.insert(siblings);
    }
    return static_cast<int>(cores.size());
  }
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

double cgroup_cpu_quota(const char* root) {
  double quota = kUnlimited;
  std::ifstream groups(std::string(root) + "/proc/self/cgroup");
  // "0::/a/b" (v2) or "4:cpu,cpuacct:/a/b" (v1). Every level counts; levels that a container does not see are skipped.
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = concat(',', line.substr(first + 1, second - first - 1), ',');
    const bool v2 = controllers == ",,";
    if (!v2 && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string mount = std::string(root) + (v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
    for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
      quota = std::min(quota, quota_in(mount + path));
      if (path.empty()) break;
    }
  }
  return quota;
}

int available_processors() {
  const double quota = std::floor(cgroup_cpu_quota(""));
  return static_cast<int>(std::max(1.0, std::min<double>(allowed_cores(), quota)));
}

}  // namespace ranvier
