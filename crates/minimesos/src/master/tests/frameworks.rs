use super::*;
use meson_mesos::scheduler::{Reconcile, Roles, UpdateFramework};

#[test]
fn subscribed_comes_first_then_a_heartbeat_then_offers() {
    let mut bench = Bench::new();
    bench.agent();
    let (scheduler, outputs) = bench.subscribe_as(aware(), None);
    assert_eq!(
        kinds(&outputs, &scheduler),
        ["SUBSCRIBED", "HEARTBEAT", "OFFERS"]
    );
    assert_eq!(scheduler.id.as_str(), "m-0000");
}

#[test]
fn heartbeats_come_every_fifteen_seconds_whatever_else_does() {
    let mut bench = Bench::new();
    let scheduler = bench.subscribe(aware());
    let outputs = bench.seconds(46.0);
    assert_eq!(kinds(&outputs, &scheduler), ["HEARTBEAT"; 3]);
}

#[test]
fn what_is_wrong_in_a_subscription_is_an_error_event_and_the_end() {
    let mut bench = Bench::new();
    let bad = FrameworkInfo {
        roles: vec!["a b".into()],
        ..info(&[CapabilityType::MultiRole])
    };
    let (scheduler, outputs) = bench.subscribe_as(bad, None);
    assert_eq!(kinds(&outputs, &scheduler), ["ERROR"]);
    assert!(closes(&outputs, &scheduler.stream));
}

#[test]
fn an_id_that_the_master_never_issued_is_accepted() {
    let mut bench = Bench::new();
    let (scheduler, _) = bench.subscribe_as(aware(), Some("made-up".into()));
    assert_eq!(scheduler.id.as_str(), "made-up");
}

#[test]
fn a_second_subscriber_with_the_same_id_fences_the_first() {
    let mut bench = Bench::new();
    let (first, agent, offer) = bench.trio(aware());
    let (second, outputs) = bench.subscribe_as(aware(), Some(first.id.clone()));
    assert_eq!(kinds(&outputs, &first), ["ERROR"], "and no RESCIND");
    assert!(closes(&outputs, &first.stream));
    assert_eq!(kinds(&outputs, &second), ["SUBSCRIBED", "HEARTBEAT"]);
    let refused = bench.call(&first, Call::Reconcile(Reconcile::default()));
    assert!(
        matches!(reply(&refused), Reply::BadRequest(why) if why.contains("didn't match the stream ID"))
    );
    // The offers died with the old stream; what they held is offered at the next run.
    let stale = bench.accept(&second, &[&offer.id], vec![task("t", &agent, 1.0)], None);
    assert_eq!(updates(&stale, &second)[0].state, TaskState::Dropped);
    let outputs = bench.seconds(1.0);
    assert_eq!(offers(&outputs, &second).len(), 1);
}

#[test]
fn the_end_of_a_fenced_stream_does_not_disconnect_its_successor() {
    let mut bench = Bench::new();
    let first = bench.subscribe(aware());
    let (second, _) = bench.subscribe_as(aware(), Some(first.id.clone()));
    bench.input(Input::SchedulerGone {
        stream: first.stream.clone(),
    });
    bench.accepted(&second, Call::Suppress(Roles::default()));
}

#[test]
fn a_disconnected_framework_is_told_403_and_may_come_back_within_its_timeout() {
    let mut bench = Bench::new();
    let (scheduler, _agent, _) = bench.trio(aware());
    bench.input(Input::SchedulerGone {
        stream: scheduler.stream.clone(),
    });
    let outputs = bench.call(&scheduler, Call::Reconcile(Reconcile::default()));
    assert_eq!(
        reply(&outputs),
        Reply::Forbidden("Framework is not subscribed".into())
    );
    bench.seconds(59.0);
    let (back, outputs) = bench.subscribe_as(aware(), Some(scheduler.id.clone()));
    assert_eq!(
        kinds(&outputs, &back),
        ["SUBSCRIBED", "HEARTBEAT", "OFFERS"],
        "offers come at once"
    );
}

#[test]
fn after_its_timeout_a_framework_is_removed_for_ever() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    bench.input(Input::SchedulerGone {
        stream: scheduler.stream.clone(),
    });
    let outputs = bench.seconds(61.0);
    let ended = ToAgent::ShutdownFramework {
        framework_id: scheduler.id.clone(),
    };
    assert!(to_agent(&outputs, &agent).contains(&ended));
    let (back, outputs) = bench.subscribe_as(aware(), Some(scheduler.id.clone()));
    assert!(
        matches!(&events(&outputs, &back)[..], [Event::Error(error)] if error.message == "Framework has been removed")
    );
}

#[test]
fn without_a_failover_timeout_a_framework_is_removed_at_once() {
    let mut bench = Bench::new();
    let scheduler = bench.subscribe(FrameworkInfo {
        failover_timeout: None,
        ..aware()
    });
    bench.input(Input::SchedulerGone {
        stream: scheduler.stream.clone(),
    });
    let (back, outputs) = bench.subscribe_as(aware(), Some(scheduler.id));
    assert_eq!(kinds(&outputs, &back), ["ERROR"]);
}

#[test]
fn teardown_ends_the_stream_without_an_event_and_kills_the_tasks() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    let outputs = bench.accepted(&scheduler, Call::Teardown);
    assert!(events(&outputs, &scheduler).is_empty());
    assert!(closes(&outputs, &scheduler.stream));
    assert!(matches!(
        to_agent(&outputs, &agent)[..],
        [ToAgent::ShutdownFramework { .. }]
    ));
    let outputs = bench.call(&scheduler, Call::Teardown);
    assert_eq!(
        reply(&outputs),
        Reply::BadRequest("Framework cannot be found".into())
    );
}

#[test]
fn a_changed_user_or_checkpoint_is_ignored_at_failover_and_refused_by_update() {
    let mut bench = Bench::new();
    let scheduler = bench.subscribe(aware());
    let changed = FrameworkInfo {
        user: "nobody".into(),
        name: "renamed".into(),
        checkpoint: None,
        ..aware()
    };
    let (scheduler, _) = bench.subscribe_as(changed.clone(), Some(scheduler.id));
    let framework = &bench.master.frameworks[&scheduler.id].info;
    assert_eq!(
        (
            framework.user.as_str(),
            framework.name.as_str(),
            framework.checkpoint
        ),
        ("root", "renamed", Some(true))
    );
    let update = UpdateFramework {
        framework_info: changed,
        ..UpdateFramework::default()
    };
    let outputs = bench.call(&scheduler, Call::UpdateFramework(update));
    assert_eq!(
        reply(&outputs),
        Reply::BadRequest(
            "FrameworkInfo update is not valid: Updating 'FrameworkInfo.user' is unsupported; attempted to update \
             from 'root' to 'nobody'"
                .into()
        )
    );
}

#[test]
fn an_update_that_suppresses_a_role_rescinds_its_offers() {
    let mut bench = Bench::new();
    let (scheduler, _agent, offer) = bench.trio(aware());
    let update = UpdateFramework {
        framework_info: aware(),
        suppressed_roles: vec!["*".into()],
        ..UpdateFramework::default()
    };
    let outputs = bench.call(&scheduler, Call::UpdateFramework(update));
    assert_eq!(reply(&outputs), Reply::Ok);
    assert!(
        matches!(&events(&outputs, &scheduler)[..], [Event::Rescind(rescind)] if rescind.offer_id == offer.id)
    );
}

#[test]
fn calls_are_refused_in_the_real_ones_order() {
    let mut bench = Bench::new();
    let scheduler = bench.subscribe(aware());
    let mut call = |framework_id: &FrameworkId, stream: Option<StreamId>| {
        let call = Box::new(Call::Reconcile(Reconcile::default()));
        reply(&bench.input(Input::Call {
            framework_id: framework_id.clone(),
            stream,
            call,
        }))
    };
    assert_eq!(
        call(&"x".into(), None),
        Reply::BadRequest("Framework cannot be found".into())
    );
    let no_stream = "All non-subscribe calls should include the 'Mesos-Stream-Id' header";
    assert_eq!(
        call(&scheduler.id, None),
        Reply::BadRequest(no_stream.into())
    );
    let wrong = "The stream ID 'wrong' included in this request didn't match the stream ID currently associated \
                 with framework ID m-0000";
    assert_eq!(
        call(&scheduler.id, Some("wrong".into())),
        Reply::BadRequest(wrong.into())
    );
}
