//! Choosing among the platforms of an image.
//!
//! The rules of containerd's `platforms` package: the same architecture, and the highest variant that the wanted one can
//! run. `linux/arm/v7` runs v7, v6 and v5; `linux/arm64` is `arm64/v8`; `linux/amd64/v3` runs v3, v2 and the baseline.

use dpack_payload::platform::Platform;

/// How well `offered` suits `wanted`: 0 is exact, larger is worse, `None` does not run at all.
pub(super) fn distance(wanted: &Platform, offered: &Platform) -> Option<u32> {
    if wanted.os() != offered.os() || wanted.architecture() != offered.architecture() {
        return None;
    }
    let level = |platform: &Platform| match (platform.architecture(), platform.variant()) {
        ("amd64", None) => Some(1),
        ("arm64", None) => Some(8),
        ("arm" | "arm64" | "amd64", Some(variant)) => variant.strip_prefix('v')?.parse::<u32>().ok(),
        _ => None,
    };
    match (level(wanted), level(offered)) {
        (Some(wanted), Some(offered)) => wanted.checked_sub(offered),
        _ => (wanted.variant() == offered.variant()).then_some(0),
    }
}

/// The best of `offered` for `wanted`; of equals the first, as the index has them in order of preference.
pub(super) fn choose<'a, T>(wanted: &Platform, offered: &'a [(Platform, T)]) -> Option<&'a (Platform, T)> {
    offered
        .iter()
        .filter_map(|entry| distance(wanted, &entry.0).map(|distance| (distance, entry)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, entry)| entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_fall_back_as_in_containerd() {
        for (wanted, offered, expected) in [
            ("linux/arm/v7", "linux/arm/v5 linux/arm/v7 linux/arm/v6", Some("linux/arm/v7")),
            ("linux/arm/v7", "linux/arm/v5 linux/arm/v6 linux/arm64", Some("linux/arm/v6")),
            ("linux/arm/v7", "linux/arm/v5", Some("linux/arm/v5")),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm/v7", "linux/arm/v8", None),
            ("linux/arm64", "linux/amd64 linux/arm64/v8", Some("linux/arm64")),
            ("linux/arm64/v8", "linux/arm64", Some("linux/arm64")),
            ("linux/arm64", "linux/arm/v7", None),
            ("linux/arm64", "linux/arm64/v9", None),
            ("linux/amd64", "linux/amd64/v3 linux/amd64", Some("linux/amd64")),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64/v4 linux/amd64 linux/amd64/v2", Some("linux/amd64/v2")),
            ("linux/amd64", "windows/amd64", None),
            ("linux/riscv64", "linux/riscv64", Some("linux/riscv64")),
        ] {
            let offered: Vec<(Platform, ())> =
                offered.split(' ').map(|text| (text.parse().unwrap(), ())).collect();
            let chosen =
                choose(&wanted.parse().unwrap(), &offered).map(|(platform, ())| platform.to_string());
            assert_eq!(chosen.as_deref(), expected, "{wanted}");
        }
    }

    #[test]
    fn of_equals_the_first_is_taken() {
        let platform: Platform = "linux/amd64".parse().unwrap();
        let offered = [(platform.clone(), 1), (platform.clone(), 2)];
        assert_eq!(choose(&platform, &offered).unwrap().1, 1);
    }
}
