//! Files that are no JSON document, or one that JSON leaves open to more than one reading.

use serde_json::Value;

/// Name, bytes, pointer, part of what is said.
pub type Document = (&'static str, Vec<u8>, &'static str, &'static str);

pub fn documents(good: &Value) -> Vec<Document> {
    let text = good.to_string();
    // The good document with one more property in front.
    let with = |property: &str| format!("{{{property},{}", &text[1..]).into_bytes();
    let broken = "this is not JSON";
    vec![
        ("empty", vec![], "/", broken),
        ("blank", b" \n\t ".to_vec(), "/", broken),
        ("truncated", text.as_bytes()[..text.len() / 2].to_vec(), "/", broken),
        ("without the last brace", text.as_bytes()[..text.len() - 1].to_vec(), "/", broken),
        ("trailing garbage", format!("{text}x").into_bytes(), "/", broken),
        ("two documents", format!("{text}\n{text}").into_bytes(), "/", broken),
        ("a byte order mark", format!("\u{feff}{text}").into_bytes(), "/", broken),
        ("a comment", format!("// config\n{text}").into_bytes(), "/", broken),
        ("a comment inside", with("/* x */ \"x\": 1"), "/", broken),
        ("a trailing comma", format!("{},}}", &text[..text.len() - 1]).into_bytes(), "/", broken),
        ("single quotes", b"{'ociVersion': '1.0.0'}".to_vec(), "/", broken),
        ("a key without quotes", b"{ociVersion: \"1.0.0\"}".to_vec(), "/", broken),
        ("NaN", text.replacen("\"soft\":1024", "\"soft\":NaN", 1).into_bytes(), "/", broken),
        ("Infinity", with("\"x\": Infinity"), "/", broken),
        ("a leading zero", text.replacen("\"uid\":0", "\"uid\":00", 1).into_bytes(), "/", broken),
        ("a hexadecimal number", text.replacen("\"uid\":0", "\"uid\":0x0", 1).into_bytes(), "/", broken),
        ("a number without end", text.replacen("\"uid\":0", "\"uid\":1e", 1).into_bytes(), "/", broken),
        ("a lone high surrogate", text.replacen("\"sh\"", r#""\ud800""#, 1).into_bytes(), "/", "hex escape"),
        (
            "a lone low surrogate",
            text.replacen("\"sh\"", r#""\udc00""#, 1).into_bytes(),
            "/",
            "surrogate in hex escape",
        ),
        ("an unknown escape", text.replacen("\"sh\"", r#""\x41""#, 1).into_bytes(), "/", broken),
        ("a raw newline in a string", text.replacen("\"sh\"", "\"s\nh\"", 1).into_bytes(), "/", broken),
        ("a raw NUL in a string", text.replacen("\"sh\"", "\"s\0h\"", 1).into_bytes(), "/", broken),
        ("NUL bytes behind it", format!("{text}\0\0").into_bytes(), "/", broken),
        ("nothing but NUL", vec![0; 4096], "/", broken),
        ("an ELF file", b"\x7fELF\x02\x01\x01\0\0\0".to_vec(), "/", broken),
        ("500000 open brackets", "[".repeat(500_000).into_bytes(), "/", broken),
        ("500000 open braces", "{\"a\":".repeat(500_000).into_bytes(), "/", broken),
        (
            "500000 brackets where a list belongs",
            text.replacen("[\"sh\"", &format!("[{}{},\"sh\"", "[".repeat(500_000), "]".repeat(500_000)), 1)
                .into_bytes(),
            "/",
            broken,
        ),
        ("a list", b"[]".to_vec(), "/", "must be an object"),
        ("a list of the right length", b"[\"1.0.0\",{\"path\":\"rootfs\"}]".to_vec(), "/", "must be an object"),
        ("a number", b"7".to_vec(), "/", "must be an object"),
        ("a string", b"\"rootfs\"".to_vec(), "/", "must be an object"),
        ("null", b"null".to_vec(), "/", "must be an object"),
        // What wins would be for each reader to guess.
        ("a key twice", with("\"ociVersion\":\"1.0.0\""), "/", "duplicate field `ociVersion`"),
        (
            "a key twice, further down",
            text.replacen("\"uid\":0", "\"uid\":1,\"uid\":0", 1).into_bytes(),
            "/process/user",
            "duplicate field `uid`",
        ),
        // A number that no type can hold must not hide what else is wrong.
        (
            "a NUL beside a number beyond all types",
            text.replacen("\"sh\"", r#""s\u0000h""#, 1).replacen('{', "{\"x\":1e999,", 1).into_bytes(),
            "/",
            "number out of range",
        ),
        (
            "null where a string is required",
            text.replacen("\"cwd\":\"/\"", "\"cwd\":null", 1).into_bytes(),
            "/process/cwd",
            "must be a string, is null",
        ),
        (
            "null in a list of strings",
            text.replacen("\"sh\"", "null", 1).into_bytes(),
            "/process/args/0",
            "must be a string, is null",
        ),
    ]
}
