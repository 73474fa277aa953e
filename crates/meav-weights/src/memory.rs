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

/// The most that this process has held since it began or since [`reset_peak_memory`], where the
/// system tells.
///
/// Linux only: `VmHWM` of `/proc/self/status`; pages of mapped files count while they are resident.
pub fn peak_memory_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Lets [`peak_memory_bytes`] begin anew with what the process holds now; whether the system allows
/// it.
///
/// Linux only: 5 into `/proc/self/clear_refs`.
pub fn reset_peak_memory() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
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

    #[test]
    fn peak_is_never_below_what_is_held() {
        let before = peak_memory_bytes().unwrap();
        let held = vec![1_u8; 64 << 20];
        let (peak, now) = (peak_memory_bytes().unwrap(), process_memory_bytes().unwrap());
        assert!(peak >= before && now >= held.len() as u64, "{before}, then {peak} and {now}");
        drop(held);
        // Other tests of this process may hold memory of their own by now.
        if reset_peak_memory() {
            assert!(peak_memory_bytes().unwrap() > 0);
        }
    }
}
