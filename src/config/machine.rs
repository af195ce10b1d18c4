//! What the machine has: the memory and the cores that this process may use. The defaults of `engine` follow from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// Taken where the machine does not tell (anything but Linux).
const MEMORY_BYTES_UNKNOWN: u64 = 4 << 30;

/// Bytes of memory that this process may use, in whole MiB: the machine's, or less if its control group has less.
pub(super) fn memory_bytes() -> u64 {
    let bytes = memory_bytes_under(Path::new("/")).unwrap_or(MEMORY_BYTES_UNKNOWN);
    bytes >> 21 << 21
}

/// Cores that this process may use; control groups and affinity count.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// Reads `proc` and `sys` under `root`.
fn memory_bytes_under(root: &Path) -> Option<u64> {
    let machine = machine_bytes(root)?;
    Some(group_bytes(root).map_or(machine, |group| group.min(machine)))
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit of the process's control group and the groups around it: version 2 (`0::/path`), then version 1
/// (`9:memory:/path`). In a container the path may not be visible, but the mount's root then is the container's group.
fn group_bytes(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let (mount, file) = match controllers {
            "" => (root.join("sys/fs/cgroup"), "memory.max"),
            "memory" => (root.join("sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let inner: PathBuf = mount.join(group);
        inner
            .ancestors()
            .take_while(|directory| directory.starts_with(&mount))
            .filter_map(|directory| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok())
            .min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: Option<u64>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(memory_bytes_under(root.path()), expected, "{files:?}");
    }

    #[test]
    fn memory_is_the_least_limit() {
        let meminfo = ("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:   12 kB\n");
        let machine = 8 << 30;
        check(&[], None);
        check(&[meminfo], Some(machine));
        check(&[meminfo, ("proc/self/cgroup", "0::/a/b\n")], Some(machine));
        check(&[meminfo, ("proc/self/cgroup", "0::/a/b\n"), ("sys/fs/cgroup/a/b/memory.max", "max\n")], Some(machine));
        check(
            &[
                meminfo,
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/b/memory.max", "4294967296\n"),
                ("sys/fs/cgroup/a/memory.max", "2147483648\n"),
            ],
            Some(2 << 30),
        );
        check(
            &[meminfo, ("proc/self/cgroup", "0::/not/visible\n"), ("sys/fs/cgroup/memory.max", "1073741824\n")],
            Some(1 << 30),
        );
        check(
            &[
                meminfo,
                ("proc/self/cgroup", "9:memory:/docker/x\n1:cpu:/docker/x\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
            ],
            Some(1 << 30),
        );
        check(
            &[meminfo, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "9223372036854771712\n")],
            Some(machine),
        );
    }

    #[test]
    fn this_machine_tells() {
        assert!(memory_bytes() > 0);
        assert!(threads() > 0);
    }
}
