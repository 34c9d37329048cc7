//! Tens of thousands of short-lived children: what one costs, and that nothing stays.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use meson_actors::{ChildSpec, Restart, Supervisor, SupervisorOptions};

use crate::common::{Count, Journal, Stop, Worker, run};

/// Counts the bytes that the current thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn add(bytes: isize) {
    // A thread that is being torn down counts nothing any more.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size().cast_signed());
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        add(-layout.size().cast_signed());
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> isize {
    HELD.with(Cell::get)
}

const CHILDREN: usize = 10_000;
/// What an idle child may cost, actor and key included.
const BYTES_PER_CHILD: isize = 2_500;

fn step(n: usize) -> ChildSpec<Worker> {
    let journal = Journal::default();
    ChildSpec::new(format!("run.step.{n}.1"), move |_| {
        let worker = Worker::new("step", &journal);
        async move { Ok(worker) }
    })
    .restart(Restart::Transient)
}

#[test]
fn ten_thousand_children_come_and_go_and_leave_nothing() {
    run(async {
        let supervisor = Supervisor::start(SupervisorOptions::new("steps"));
        let mut after = Vec::new();
        for round in 0..4 {
            let before = held();
            let began = std::time::Duration::from_nanos(clock());
            let children: Vec<_> = (0..CHILDREN)
                .map(|n| supervisor.start_child(step(n)).unwrap())
                .collect();
            for child in &children {
                assert_eq!(child.send(Count).await, Ok(1));
            }
            let started = std::time::Duration::from_nanos(clock());
            let each = (held() - before) / CHILDREN.cast_signed();
            assert_eq!(supervisor.len(), CHILDREN);
            assert!(each < BYTES_PER_CHILD, "{each} bytes per idle child");

            for child in &children {
                child.try_send(Stop).unwrap();
            }
            for child in &children {
                child.ended().await;
            }
            let ended = std::time::Duration::from_nanos(clock());
            drop(children);
            assert!(supervisor.is_empty());
            println!(
                "round {round}: {each} bytes per idle child; started and asked once: {:?} each; \
                 stopped: {:?} each",
                (started - began) / CHILDREN as u32,
                (ended - started) / CHILDREN as u32,
            );
            after.push(held());
        }
        // The first round leaves the tables at their size; later ones leave nothing.
        let growth = after[3] - after[1];
        assert!(growth.abs() < 64 * 1024, "{growth} bytes stayed: {after:?}");
        supervisor.shutdown().await;
    });
}

/// Real nanoseconds, whatever the runtime's clock says.
#[expect(
    clippy::disallowed_methods,
    reason = "measures real time while tokio's is paused"
)]
fn clock() -> u64 {
    use std::sync::OnceLock;
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    let origin = ORIGIN.get_or_init(std::time::Instant::now);
    u64::try_from(origin.elapsed().as_nanos()).unwrap()
}
