//! A database that a server has open.

use crate::serving::Serving;
use crate::shop::Shop;

#[test]
fn a_server_backs_up_mends_and_takes_back_while_others_write() {
    let shop = Shop::new();
    let token = shop.ok(&["token", "create", "ann", "--role", "admin"]);
    let serve = shop.command(&["serve", "--listen", "127.0.0.1:0"]);
    let serving = Serving::start(serve, &token);
    let ok = |words: &[&str]| serving.ok(&shop.command(words));
    let whole = shop.content();
    ok(&["backup", "shop", "--label", "monday"]);
    shop.damage();
    let damaged = shop.content();
    assert!(damaged != whole);
    let drilled = serving.json(shop.command(&["drill", "monday", "--sample", "all"]));
    assert_eq!(
        (&drilled["kind"], &drilled["state"]),
        (&"drill".into(), &"done".into())
    );
    assert_eq!(shop.content(), damaged);
    assert!(ok(&["show", "monday"]).contains("proven      restorable at"));
    let diff = serving.ends(3, &shop.command(&["verify", "monday", "--live"]));
    assert!(diff.contains("different"), "{diff}");
    let preview = serving.json(shop.command(&["restore", "shop", "--in-place", "--dry-run"]));
    assert_eq!(
        preview["tables"].as_array().unwrap().len(),
        2,
        "{preview:#}"
    );
    let mended = serving.json(shop.command(&["restore", "shop", "--in-place"]));
    assert_eq!(shop.content(), whole);
    let id = mended["operation_id"].as_str().unwrap();
    assert!(
        ok(&["operation", "show", id]).contains("publish")
            || ok(&["operation", "list"]).contains(id)
    );
    ok(&["undo", id]);
    assert_eq!(shop.content(), damaged);
    assert!(ok(&["collection", "show", "shop"]).contains("public.orders"));
    // Another process is told who has the database open.
    let said = shop.fails(1, &["backup", "shop"]);
    assert!(said.contains("another mendb"), "{said}");
}
