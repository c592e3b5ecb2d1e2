//! The daily life of a container: create, start, state, kill, delete, run.

mod common;

use common::{Bundle, Census};

#[test]
fn run_gives_the_programs_output_and_exit_code_and_leaves_nothing() {
    let bundle = Bundle::new(&["sh", "-c", "echo hello; exit 42"]);
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (42, "hello\n"), "{said:?}");
    Census::of(&bundle).nothing_left(&bundle);
}
