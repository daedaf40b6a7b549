//! Damaged profiles: [`compile`] may refuse them, but what it makes the kernel takes.

use super::*;

/// The rules of `bpf_check_classic` and `seccomp_check_filter` in the kernel.
fn acceptable(program: &[sock_filter]) -> bool {
    let fits = |(at, it): (usize, &sock_filter)| match it.code {
        0x20 => it.k < 64 && it.k % 4 == 0,
        0x54 | 0x06 => true,
        0x05 => (it.k as usize) < program.len() - at - 1,
        0x15 | 0x25 | 0x35 => usize::from(it.jt.max(it.jf)) < program.len() - at - 1,
        _ => false,
    };
    (1..=4096).contains(&program.len())
        && program.iter().enumerate().all(fits)
        && program.last().is_some_and(|last| last.code == 0x06)
}

#[test]
fn fuzz_profiles() {
    let mut random = Random(9);
    let mut seeds: Vec<String> = (0..40).map(|_| reading::random_profile(&mut random).to_string()).collect();
    seeds.extend([DOCKER.to_owned(), PODMAN.to_owned()]);
    let seeds: Vec<&[u8]> = seeds.iter().map(String::as_bytes).collect();
    crate::fuzz::fuzz(&seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(profile) = serde_json::from_str::<Seccomp>(&text) else { return };
        let mut problems = Problems::default();
        check(&profile, "/linux/seccomp", &mut problems);
        for native in [Native::X86_64, Native::Aarch64] {
            let Ok(filter) = compile_for(&profile, native) else { continue };
            assert!(acceptable(&filter.program));
            assert_eq!(Filter::from_bytes(&filter.to_bytes()).map(|it| it.to_bytes()), Some(filter.to_bytes()));
            for arch in [X86_64, X86, AARCH64, ARM] {
                let _ = run(&filter.program, &Call { arch, number: random_number(bytes), args: [7; 6] });
            }
        }
    });
}

/// Some number that is the same for the same bytes.
fn random_number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte))) % 600
}
