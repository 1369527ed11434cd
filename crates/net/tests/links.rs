//! Links between real transports: frames, lifetimes, reconnection.

mod support;

use bytes::Bytes;
use difuse_net::{Class, Event, RingTag, Role, SendError};
use difuse_types::{Hash, RingId};
use support::{Node, client_settings, link, settings, soon, start};

/// Sends a frame there and another back, in both classes.
async fn exchange(one: &mut Node, other: &mut Node) {
    for class in [Class::Control, Class::Bulk] {
        one.send(other.id(), class, b"there");
        assert_eq!(other.expect_frame(one.id(), class).await, "there");
        other.send(one.id(), class, b"and back");
        assert_eq!(one.expect_frame(other.id(), class).await, "and back");
    }
}

#[tokio::test]
async fn two_nodes_exchange_frames_both_ways() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    assert_eq!(one.net.send(other.id(), Class::Control, Bytes::new()), Err(SendError::NotConnected));
    link(&mut one, &mut other).await;
    exchange(&mut one, &mut other).await;
}

#[tokio::test]
async fn frames_of_one_class_arrive_in_order() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    link(&mut one, &mut other).await;
    for number in 0..10_000_u32 {
        one.net.send(other.id(), Class::Control, Bytes::copy_from_slice(&number.to_le_bytes())).unwrap();
    }
    for number in 0..10_000_u32 {
        assert_eq!(other.expect_frame(one.id(), Class::Control).await, number.to_le_bytes()[..]);
    }
}

#[tokio::test]
async fn large_frames_arrive_unchanged() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    link(&mut one, &mut other).await;
    for length in [0, 1, 65_535, 262_144, 2 * 1024 * 1024] {
        let frame: Bytes = (0..length).map(|index| (index * 31 % 251) as u8).collect::<Vec<_>>().into();
        for class in [Class::Control, Class::Bulk] {
            one.net.send(other.id(), class, frame.clone()).unwrap();
            let arrived = other.expect_frame(one.id(), class).await;
            assert!(arrived == frame, "{length} bytes in {class:?}");
        }
    }
    let max = 2 * 1024 * 1024;
    let longer = Bytes::from(vec![0; max + 1]);
    assert_eq!(one.net.send(other.id(), Class::Bulk, longer), Err(SendError::TooLong { max }));
}

#[tokio::test]
async fn a_remote_that_does_not_read_fills_the_queue_and_nothing_else() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    link(&mut one, &mut other).await;
    let frame = Bytes::from(vec![7; 1024 * 1024]);
    let refused = soon(async {
        loop {
            match one.net.send(other.id(), Class::Bulk, frame.clone()) {
                Ok(()) => tokio::task::yield_now().await,
                Err(refused) => break refused,
            }
        }
    })
    .await;
    assert_eq!(refused, SendError::Full);
    one.send(other.id(), Class::Control, b"passes by");
    assert_eq!(other.expect_frame(one.id(), Class::Control).await, "passes by");
    assert_eq!(other.expect_frame(one.id(), Class::Bulk).await, frame);
}

#[tokio::test]
async fn nodes_that_dial_each_other_at_once_are_connected_once() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    let (to_other, to_one) = (other.address(), one.address());
    let (dialled, dialled_back) =
        soon(async { tokio::join!(one.net.connect(&to_other), other.net.connect(&to_one)) }).await;
    assert_eq!((dialled.unwrap(), dialled_back.unwrap()), (other.id(), one.id()));
    one.expect_connected(other.id()).await;
    other.expect_connected(one.id()).await;
    exchange(&mut one, &mut other).await;
}

#[tokio::test]
async fn a_second_link_takes_over_silently() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    link(&mut one, &mut other).await;
    soon(one.net.connect(&other.address())).await.unwrap();
    soon(other.net.connect(&one.address())).await.unwrap();
    exchange(&mut one, &mut other).await;
}

#[tokio::test]
async fn a_client_and_a_node_exchange_frames() {
    let (mut client, mut node) = (start(client_settings(1)).await, start(settings(2)).await);
    assert_eq!(client.net.local_address(), None);
    soon(client.net.connect(&node.address())).await.unwrap();
    assert_eq!(client.expect_connected(node.id()).await, Role::Peer);
    assert_eq!(node.expect_connected(client.id()).await, Role::Client);
    exchange(&mut client, &mut node).await;
    let gone = client.id();
    drop(client);
    node.expect_disconnected(gone).await;
}

#[tokio::test]
async fn a_joining_node_learns_the_ring() {
    let ring = RingTag(Some(RingId(Hash([5; 32]))));
    let mut member = settings(1);
    member.ring = ring;
    let (member, mut joiner) = (start(member).await, start(settings(2)).await);
    soon(joiner.net.connect(&member.address())).await.unwrap();
    let Event::Connected { ring: learnt, address, .. } = joiner.next().await else { panic!("expected a connection") };
    assert_eq!((learnt, address), (ring, member.address()));

    joiner.net.set_ring(ring);
    let mut third = start(settings(3)).await;
    soon(third.net.connect(&joiner.address())).await.unwrap();
    assert!(matches!(third.next().await, Event::Connected { ring: shown, .. } if shown == ring));
}

#[tokio::test]
async fn the_loss_of_the_other_side_is_reported() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    link(&mut one, &mut other).await;
    let gone = other.id();
    drop(other);
    one.expect_disconnected(gone).await;
    assert_eq!(one.net.send(gone, Class::Control, Bytes::new()), Err(SendError::NotConnected));
}

#[tokio::test]
async fn both_sides_report_a_link_that_one_ends() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    link(&mut one, &mut other).await;
    one.net.disconnect(other.id());
    one.expect_disconnected(other.id()).await;
    other.expect_disconnected(one.id()).await;
    link(&mut one, &mut other).await;
    exchange(&mut one, &mut other).await;
}

#[tokio::test]
async fn the_address_book_reconnects_to_a_node_that_restarts() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    let (gone, address) = (other.id(), other.net.local_address());
    one.net.set_address(gone, &other.address());
    one.expect_connected(gone).await;
    other.expect_connected(one.id()).await;

    soon(other.net.shutdown()).await;
    one.expect_disconnected(gone).await;

    let mut again = settings(2);
    again.listen = address;
    let mut other = start(again).await;
    one.expect_connected(gone).await;
    other.expect_connected(one.id()).await;
    exchange(&mut one, &mut other).await;
}

/// Each may have dialled: how many links there were, and so how often each reports, is left open.
#[tokio::test]
async fn nodes_in_each_others_address_book_find_each_other_again() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    one.net.set_address(other.id(), &other.address());
    other.net.set_address(one.id(), &one.address());
    one.expect_connected(other.id()).await;
    one.net.disconnect(other.id());
    let frame = Bytes::from_static(b"found again");
    loop {
        match one.next().await {
            Event::Connected { .. } => break,
            event => assert_eq!(event, Event::Disconnected { node: other.id() }),
        }
    }
    soon(async {
        loop {
            // A link that is about to end may still take the frame and lose it.
            let _ = one.net.send(other.id(), Class::Control, frame.clone());
            tokio::select! {
                event = other.control.recv() => {
                    if matches!(event, Some(Event::Frame { frame: arrived, .. }) if arrived == frame) {
                        return;
                    }
                }
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_forgotten_node_is_not_dialled() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    one.net.set_address(other.id(), &other.address());
    one.expect_connected(other.id()).await;
    other.expect_connected(one.id()).await;
    one.net.forget(other.id());
    one.net.disconnect(other.id());
    one.expect_disconnected(other.id()).await;
    other.expect_disconnected(one.id()).await;

    // The next to connect is whom we ask to, not the one that was forgotten.
    let mut third = start(settings(3)).await;
    link(&mut one, &mut third).await;
}
