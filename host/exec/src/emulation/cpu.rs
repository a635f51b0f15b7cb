//! Variants of amd64: the micro-architecture levels of the x86-64 psABI, as images are marked with them (`linux/amd64/v3`).
use rhost_llb::Platform;

/// The first feature that programs of `wanted`, whose architecture is this machine's, may use and this processor lacks.
#[cfg(target_arch = "x86_64")]
pub fn missing(wanted: &Platform) -> Option<&'static str> {
    macro_rules! features {
        ($($name:tt)*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let two = features!("cmpxchg16b" "popcnt" "sse3" "sse4.1" "sse4.2" "ssse3");
    let three = features!("avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe" "xsave");
    let four = features!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl");
    let level = match wanted.variant.as_str() {
        "v2" => 2,
        "v3" => 3,
        "v4" => 4,
        _ => 1,
    };
    let asked = [(2, &two[..]), (3, &three[..]), (4, &four[..])].into_iter().filter(|(of, _)| *of <= level);
    asked.flat_map(|(_, features)| features).find(|(_, has)| !has).map(|(name, _)| *name)
}

/// The first feature that programs of `wanted`, whose architecture is this machine's, may use and this processor lacks.
#[cfg(not(target_arch = "x86_64"))]
pub fn missing(_wanted: &Platform) -> Option<&'static str> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn levels_include_the_lower_ones() {
        let of = |variant| missing(&Platform::new("linux", "amd64", variant));
        assert_eq!(of(""), None);
        assert!(of("v2").is_none_or(|lacks| of("v3") == Some(lacks) && of("v4") == Some(lacks)));
        assert!(of("v3").is_none_or(|_| of("v4").is_some()));
    }
}
