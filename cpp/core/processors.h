#pragma once

namespace ranvier {

// How many threads can run at once: max(1, min(cores that this process may run on, cgroup CPU quota rounded down)).
// Two hardware threads of one core count once: they share its multipliers.
int available_processors();

// The CPU quota of this process's cgroup (v1 or v2) or of the tightest one above it; infinity where there is none.
// root: "" but in tests.
double cgroup_cpu_quota(const char* root);

}  // namespace ranvier
