use std::fs;

/// Memory that a new allocation could use without swapping, where the system tells.
///
/// Linux only: `MemAvailable` of `/proc/meminfo`.
pub fn available_memory_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// Memory that there is in all, where the system tells.
///
/// Linux only: `MemTotal` of `/proc/meminfo`.
pub fn total_memory_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// Memory that this process holds, where the system tells.
///
/// Linux only: `VmRSS` of `/proc/self/status`; pages of mapped files count while they are resident.
pub fn process_memory_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Memory that goes when this process ends or gives it back, where the system tells: what it holds
/// without the pages of mapped files.
///
/// Linux only: `RssAnon` of `/proc/self/status`.
pub fn process_anonymous_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_are_found_by_key() {
        let text = "MemTotal:       10 kB\nMemAvailable:   4 kB\n";
        assert_eq!(kibibytes(text, "MemAvailable:"), Some(4096));
        assert_eq!(kibibytes(text, "SwapFree:"), None);
    }

    #[test]
    fn process_holds_some_of_what_there_is() {
        let (used, total) = (process_memory_bytes().unwrap(), total_memory_bytes().unwrap());
        assert!(used > 0 && used < total, "{used} of {total}");
        let anonymous = process_anonymous_bytes().unwrap();
        assert!(anonymous > 0 && anonymous < total, "{anonymous} of {total}");
    }
}
