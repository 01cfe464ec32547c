//! A process that has just had threads gets into a user namespace; needs root.

use std::thread;
use std::time::Duration;

use hull_sys::user_namespace;

fn main() {
    threads_that_are_about_to_end_do_not_keep_a_process_out_of_a_namespace();
}

fn threads_that_are_about_to_end_do_not_keep_a_process_out_of_a_namespace() {
    // Nobody joins it, as nobody joins the threads that read what a program says.
    thread::spawn(|| thread::sleep(Duration::from_millis(300)));
    user_namespace::enter(&[(0, 0, 1)], &[(0, 0, 1)]).expect("root may map itself");
    assert!(user_namespace::is_inside());
}
