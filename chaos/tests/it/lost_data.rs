//! A node whose data are not what it has promised to keep: it is refused or stopped, by name, and
//! nobody else suffers.

use std::path::Path;

use crate::{
    cluster::alone,
    regions::until,
    upkeep::{SOON, Three, mesonctl, text},
};

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(copied.expect("cp runs").success());
}

async fn works(three: &Three) {
    let file = three.workflow("a = noop()\nworkflow(name = \"w\", flow = start >> a >> end)\n");
    let run = three.submit(&file).await;
    let status = three.ended(&run).await;
    assert_eq!(status["state"], "succeeded", "{status:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_data_or_was_given_an_older_copy_stops_and_the_others_go_on() {
    let _alone = alone();
    let mut three = Three::start().await;
    let nodes = three.cluster.folder().join("nodes");
    let (data, old) = (nodes.join("data-3"), nodes.join("old-3"));
    let log = three.cluster.log(3);
    let said = |text: &str| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains(text)
    };
    works(&three).await;
    until("it is on record that it has begun", async || {
        let record = std::fs::read_to_string(data.join("birth.json")).unwrap_or_default();
        record.contains("\"grown\": true")
    })
    .await;
    three.cluster.stop_node(3).await.expect("it ends in order");
    copy(&data, &old);

    std::fs::remove_dir_all(data.join("shards")).expect("a folder");
    three.cluster.start_node(3).expect("it starts");
    until("it misses its shards", async || {
        said("shards holds nothing, but this node has taken part in its cluster")
    })
    .await;
    works(&three).await;

    // With all of its data it is welcome.
    std::fs::remove_dir_all(&data).expect("a folder");
    copy(&old, &data);
    three.cluster.start_node(3).expect("it starts");
    let healthy = three.cluster.wait_healthy(3, SOON).await;
    healthy.expect("it is healthy");
    for _ in 0..8 {
        works(&three).await;
    }

    // With less than it has acknowledged it is not.
    three.cluster.stop_node(3).await.expect("it ends in order");
    std::fs::remove_dir_all(&data).expect("a folder");
    copy(&old, &data);
    three.cluster.start_node(3).expect("it starts");
    until("it is told what it lost", async || {
        said("that this node had acknowledged")
    })
    .await;
    for _ in 0..4 {
        works(&three).await;
    }
    three.cluster.start_node(3).expect("it starts");
    until("it is refused from then on", async || {
        said("is not fit for use")
    })
    .await;
    for node in [1, 2] {
        let healthy = three.cluster.wait_healthy(node, SOON).await;
        healthy.expect("nothing ever happened to it");
    }

    // Neither of the two that are left can be spared; the one that is lost can.
    let refused = mesonctl(&three.urls, &["cluster", "remove", "2"]).await;
    let said = text(&refused);
    assert!(
        !refused.status.success() && said.contains("nodes 3 do not answer"),
        "{said}"
    );
    let removed = mesonctl(&three.urls, &["cluster", "remove", "3"]).await;
    assert!(removed.status.success(), "{}", text(&removed));
    works(&three).await;
    three.cluster.stop().await;
}
