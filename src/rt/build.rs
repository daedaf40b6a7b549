//! Has the linker put what the usual commands execute side by side, where rt is built as it ships.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=order.ld");
    // Others' linkers need not know GNU's scripts, and nothing but speed depends on it.
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("musl") {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
        println!("cargo::rustc-link-arg-bin=rt=-Wl,-T,{here}/order.ld");
    }
}
