"""Many assets: prompt files, a protocol of files that any number of processes can share, workers here or on a Ray cluster.

prompts    a file of prompts → rows, each line checked
unit       (prompt, seed, hash of the settings) → one unit of work with a folder of its own
store      where results lie: a folder, or anything that fsspec reaches
protocol   claims, heartbeats, failures, markers: who makes what, and what is done
task       what is done with a unit: an asset, a cell of a sweep, a rehearsal
worker     one unit from claim to marker
driver     who gets which unit next; retries, watching other drivers, the end
local, cluster   workers as processes of this machine, as actors of Ray
scan       manifest and overview page, derived from the files
"""
