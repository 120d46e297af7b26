use std::{path::PathBuf, sync::Arc, time::Instant};
use mendb_model::part::*;
use mendb_repo::*;
fn main() {
    let root = PathBuf::from(std::env::args().nth(1).unwrap());
    let repo = std::env::args().nth(2).unwrap();
    let transfers: usize = std::env::args().nth(3).unwrap().parse().unwrap();
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let options = RepositoryOptions { transfers, ..Default::default() };
    rt.block_on(async {
        let r = Repository::open(&repo, options).await.unwrap();
        r.create_if_absent().await.unwrap();
        let run = |known: Arc<KnownFiles>| { let r = r.clone(); let root = root.clone(); async move {
            let mut w = r.part_writer(known);
            for d in std::fs::read_dir(&root).unwrap() {
                let d = d.unwrap().path();
                let mut files = vec![];
                for f in std::fs::read_dir(&d).unwrap() { let f = f.unwrap();
                    let name = f.file_name().into_string().unwrap();
                    let m = f.metadata().unwrap();
                    let h = blake3::hash(f.path().to_str().unwrap().as_bytes());
                    files.push(FileOnDisk { name, bytes: m.len(), checksum: Some(Hash128(*h.as_bytes().first_chunk().unwrap())) });
                }
                let part = Part::new(d.file_name().unwrap().to_str().unwrap(), 1, 1, Hash128([0;16]), "default").unwrap();
                w.add(part, &d, files).await.unwrap();
            }
            w.finish().await.unwrap()
        }};
        let t = Instant::now();
        let (records, up) = run(Arc::default()).await;
        eprintln!("backup {:?} {up:?}", t.elapsed());
        let t = Instant::now();
        let (_, up) = run(Arc::new(KnownFiles::new(records.clone()))).await;
        eprintln!("again {:?} {up:?}", t.elapsed());
        let out = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
        let mut files = vec![];
        for rec in &records { std::fs::create_dir(out.path().join(&rec.part.name)).unwrap(); for f in &rec.files { files.push((f, out.path().join(&rec.part.name).join(&f.name))); } }
        let t = Instant::now();
        let fetched = r.fetch_part_files(&files).await.unwrap();
        eprintln!("fetch {:?} {fetched:?}", t.elapsed());
        let t = Instant::now();
        let v = r.verify_files(&records).await.unwrap();
        eprintln!("verify {:?} {v:?}", t.elapsed());
        let t = Instant::now();
        r.check_files_present(files.iter().map(|f| f.0)).await.unwrap();
        eprintln!("present {:?}", t.elapsed());
    });
    for l in std::fs::read_to_string("/proc/self/status").unwrap().lines() { if l.starts_with("VmHWM") { eprintln!("{l}"); } }
}
