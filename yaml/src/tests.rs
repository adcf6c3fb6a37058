//! What the crate promises, seen from outside.

use crate::*;

fn shown(text: &str) -> String {
    File::parse("f.yaml", text).map(|file| format!("{:?}", file.root())).unwrap_or_else(|e| e.to_string())
}

#[test]
fn probe() {
    for t in [
        "",
        "a: 1 # c\nb: x y  # c\nc: 'é x'\nd: \"q\\n\"\ne: |\n  l\n  m\nf: [a, {b: c}]\ng:\nh: ~\n",
        "a: &x 1\nb: *x\nc: *y\n<<: {}\nd: !t 1\na: 2\n7: 1\n",
        "a:\r\n  b: é: x\r\n",
        "a: 010\nb: True\nc: 1e999\n",
        "\tb: 1\n",
        "a: 1\n---\nb: 2\n",
        "\u{feff}a: &x 1\n",
        "a: b\0c\n",
        "%YAML 1.2\n---\na: 1",
        "a: [1, 2\nb: 3\n",
        "a: é${x.y} # z\n",
        "? [a]\n: 1\n",
        "a:\n  b\n  c\n",
    ] {
        println!("--- {t:?}\n{}", shown(t));
    }
}
