//! The program itself.

use std::process::{Command, Stdio};

fn program(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn help_of_every_command_fits_a_screen_and_the_long_one_has_an_example() {
    let mut commands: Vec<Vec<&str>> = vec![vec![]];
    for command in [
        "serve",
        "lineage",
        "verify",
        "policy",
        "replay",
        "doctor",
        "case",
        "system",
        "connector",
    ] {
        commands.push(vec![command]);
    }
    for verb in [
        "open",
        "list",
        "show",
        "plan",
        "approve",
        "withdraw",
        "lift",
        "replan",
        "close",
        "certificate",
    ] {
        commands.push(vec!["case", verb]);
    }
    for verb in ["list", "check", "scan"] {
        commands.push(vec!["system", verb]);
    }
    commands.push(vec!["connector", "check"]);
    for command in commands {
        let (code, short, err) = program(&[command.as_slice(), &["-h"]].concat());
        assert!(code == 0 && err.is_empty(), "{command:?}: {err}");
        assert!(
            short.lines().count() <= 50,
            "{command:?} -h has {} lines",
            short.lines().count()
        );
        let (code, long, _) = program(&[command.as_slice(), &["--help"]].concat());
        assert_eq!(code, 0);
        let is_group = matches!(command.as_slice(), ["case" | "system" | "connector"]);
        assert!(
            is_group || long.contains("xample"),
            "{command:?} --help has no example"
        );
    }
}

#[test]
fn the_program_ends_with_the_documented_codes() {
    assert_eq!(program(&["--version"]).0, 0);
    assert_eq!(program(&["verify", "--no-such-flag"]).0, 64);
    let (code, _, err) = program(&[
        "case",
        "open",
        "--right",
        "erasur",
        "--identifier",
        "email=a@b.example",
    ]);
    assert!(code == 64 && err.contains("erasure"), "{err}");
    assert_eq!(program(&["case", "list", "--server", "http://127.0.0.1:9"]).0, 2);
}
