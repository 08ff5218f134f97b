//! Who is told that somebody's keys have changed.

use myelin_core::nid::UserNid;
use myelin_storage::commit::{Audience, Change, DeviceListChange};
use ruma::UserId;

use crate::support::{
    member,
    sender::{HERE, Sender, local},
};

async fn nid(here: &Sender, user: &UserId) -> UserNid {
    here.actors.nids.intern_users(&[user]).await.unwrap()[0]
}

#[actix_rt::test]
async fn who_joins_while_they_upload_keys_is_told_where_they_came_to() {
    let here = Sender::new().await;
    let room = here.room(&[]).await;
    let [carol, dave] = ["carol", "dave"].map(|name| UserId::parse(format!("@{name}:{HERE}")).unwrap());
    let (carol_nid, dave_nid) = (nid(&here, &carol).await, nid(&here, &dave).await);
    let member_of_room = here.actors.syncers.user(nid(&here, &local()).await);
    let stranger = here.actors.syncers.user(dave_nid);
    member_of_room.news(None).await.unwrap();
    stranger.news(None).await.unwrap();

    // Her rooms are read now, and the change is committed after the join.
    let as_of = here.actors.syncers.now().position;
    here.handle(&room).await.send(member(&carol, "join")).await.unwrap();
    let joined = member_of_room.news(None).await.unwrap().upto;
    let change = |as_of| {
        Change::DeviceList(DeviceListChange {
            user: carol_nid,
            audience: Audience::Rooms { rooms: Vec::new(), as_of },
            writes: Vec::new(),
            announcements: Vec::new(),
        })
    };
    here.actors.journal.write(change(as_of)).await.unwrap();
    let news = member_of_room.news(Some(joined)).await.unwrap();
    assert!(news.device_lists);
    assert!(!stranger.news(Some(joined)).await.unwrap().device_lists);
    // The join is no reason to tell of later changes in rooms that do not have it.
    here.actors.journal.write(change(joined.position)).await.unwrap();
    assert!(!member_of_room.news(Some(news.upto)).await.unwrap().device_lists);
}
