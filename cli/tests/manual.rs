//! Completions and manual pages name every command, and every setting of `send`.

use assert_cmd::Command;

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = doorbell(&["completions", shell]);
        for word in COMMANDS.iter().chain(&["packet-size", "print-config"]) {
            assert!(text.contains(word), "{shell} is not told of {word}");
        }
    }
}

/// Shells that are here take what they are given.
#[test]
fn bash_reads_its_completions() {
    let script = doorbell(&["completions", "bash"]) + "\ncomplete -p doorbell\n";
    Command::new("bash").args(["-euc", &script]).assert().success();
}

#[test]
fn there_is_a_page_for_the_program_and_for_every_command() {
    let page = doorbell(&["man"]);
    assert!(page.contains(".TH doorbell 1"), "{page}");
    for command in COMMANDS {
        assert!(page.contains(command), "the page does not name {command}");
        let page = doorbell(&["man", command]);
        assert!(page.contains(".SH NAME") && page.contains(".SH OPTIONS"), "{page}");
        assert!(page.contains(command));
    }
    assert!(doorbell(&["man", "send"]).contains("\\-\\-packet\\-size"));
}

#[test]
fn a_page_that_there_is_not() {
    let failed = Command::cargo_bin("doorbell").unwrap().args(["man", "sned"]).assert().code(2);
    let errors = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
    assert!(errors.contains("no command `sned`") && errors.contains("send"), "{errors}");
}

fn doorbell(arguments: &[&str]) -> String {
    let done = Command::cargo_bin("doorbell").unwrap().args(arguments).assert().success();
    String::from_utf8(done.get_output().stdout.clone()).unwrap()
}

const COMMANDS: [&str; 7] = ["send", "recv", "plan", "devices", "bench", "completions", "man"];
