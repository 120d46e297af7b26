//! A store that fails as told.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tokio::sync::oneshot;

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Get,
    Put,
    List,
    Delete,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The store has a bad moment.
    Unavailable,
    /// It refuses for good.
    Denied,
    /// It does what it should, and the answer gets lost.
    AnswerLost,
    /// There is never an answer.
    Silence,
    /// A bit of the body is another one.
    FlippedBit,
    /// The body ends early.
    CutBody,
    /// The disk is full.
    DiskFull,
}

#[derive(Debug)]
struct Rule {
    request: Request,
    object: String,
    fault: Fault,
    times: u32,
}

/// What a store makes of the conditions of writes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    #[default]
    Kept,
    /// It creates what is there.
    CreateIgnored,
    /// It replaces what has changed.
    UpdateIgnored,
    /// It refuses to replace under a condition.
    UpdateUnknown,
    /// It says that everything has changed.
    UpdateNever,
}

/// A clock that tests advance, and when objects were written by it.
#[derive(Debug, Default, Clone)]
pub struct Clock {
    now_s: Arc<AtomicI64>,
    written_s: Arc<Mutex<HashMap<Path, i64>>>,
}

impl Clock {
    /// It begins when the first of these tests could have been run.
    pub fn begin() -> Self {
        let clock = Self::default();
        clock.advance(1_790_000_000);
        clock
    }

    pub fn advance(&self, seconds: i64) {
        self.now_s.fetch_add(seconds, Ordering::Relaxed);
    }

    fn note(&self, location: &Path) {
        let now_s = self.now_s.load(Ordering::Relaxed);
        let mut written_s = self.written_s.lock().unwrap();
        written_s.insert(location.clone(), now_s);
    }

    fn tell(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let written_s = self.written_s.lock().unwrap();
        let written_s = written_s.get(&meta.location).copied().unwrap_or(0);
        let of_1970 = meta.last_modified
            - Duration::from_secs(u64::try_from(meta.last_modified.timestamp()).unwrap());
        meta.last_modified = of_1970 + Duration::from_secs(u64::try_from(written_s).unwrap());
        meta
    }
}

/// A store in memory in front of which faults wait for their requests.
#[derive(Debug, Default, Clone)]
pub struct FaultyStore {
    pub conditions: Conditions,
    pub clock: Option<Clock>,
    /// The store without the faults.
    pub below: Arc<InMemory>,
    rules: Arc<Mutex<Vec<Rule>>>,
    pub witness: Witness,
    /// Where each request waits until it is let through, if it does.
    pub gate: Option<Gate>,
}

/// Holds the requests of a process, each until somebody lets it through.
#[derive(Debug, Default, Clone)]
pub struct Gate(Arc<Mutex<VecDeque<oneshot::Sender<()>>>>);

impl Gate {
    async fn pass(&self) {
        let (opener, opened) = oneshot::channel();
        self.0.lock().unwrap().push_back(opener);
        // When the gate goes, so does who waits.
        drop(opened.await);
    }

    /// Lets the request through that has waited longest; false when none waits.
    pub fn let_through(&self) -> bool {
        let mut waiting = self.0.lock().unwrap();
        // Who has given up waits no more.
        while let Some(opener) = waiting.pop_front() {
            if opener.send(()).is_ok() {
                return true;
            }
        }
        false
    }

    /// Whether a request waits.
    pub fn is_waited_at(&self) -> bool {
        let waiting = self.0.lock().unwrap();
        waiting.iter().any(|opener| !opener.is_closed())
    }
}

/// Who is told of each request, if anyone is.
#[derive(Default, Clone)]
pub struct Witness(pub Arc<Mutex<Option<Arc<Watch>>>>);

pub type Watch = dyn Fn(Request, &str, Moment) + Send + Sync;

/// When a request is witnessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

impl Witness {
    /// Reports a request. One that is witnessed takes a while, so that all that may be under way
    /// together are.
    async fn tell(&self, request: Request, name: &str, moment: Moment) {
        let watch = self.0.lock().unwrap().clone();
        let Some(watch) = watch else {
            return;
        };
        watch(request, name, moment);
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }
}

impl FaultyStore {
    /// The same objects and the same clock, without witness and faults.
    pub fn unwatched(&self) -> Self {
        Self {
            below: Arc::clone(&self.below),
            conditions: self.conditions,
            clock: self.clock.clone(),
            ..Self::default()
        }
    }

    /// What the store says of an object.
    fn told(&self, meta: ObjectMeta) -> ObjectMeta {
        match &self.clock {
            Some(clock) => clock.tell(meta),
            None => meta,
        }
    }

    fn note_written(&self, location: &Path) {
        if let Some(clock) = &self.clock {
            clock.note(location);
        }
    }

    /// The next `times` requests of this kind to objects whose name holds `object` meet a fault.
    pub fn fail(&self, request: Request, object: &str, fault: Fault, times: u32) {
        self.rules.lock().unwrap().push(Rule {
            request,
            object: object.to_owned(),
            fault,
            times,
        });
    }

    /// How often faults that were told have not happened yet.
    pub fn waiting(&self) -> u32 {
        self.rules
            .lock()
            .unwrap()
            .iter()
            .map(|rule| rule.times)
            .sum()
    }

    fn fault(&self, request: Request, location: Option<&Path>) -> Option<Fault> {
        let name = location.map_or("", Path::as_ref);
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| {
            rule.times > 0 && rule.request == request && name.contains(&rule.object)
        })?;
        rule.times -= 1;
        Some(rule.fault)
    }

    /// What comes of a request that `work` would do.
    async fn meet<T>(
        &self,
        request: Request,
        location: Option<&Path>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let generic = |source: Box<dyn std::error::Error + Send + Sync>| Error::Generic {
            store: "faulty",
            source,
        };
        let name = location.map_or("", Path::as_ref);
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        self.witness.tell(request, name, Moment::Before).await;
        let work = async {
            let met = work.await;
            self.witness.tell(request, name, Moment::After).await;
            met
        };
        match self.fault(request, location) {
            None | Some(Fault::FlippedBit | Fault::CutBody) => work.await,
            Some(Fault::Unavailable) => Err(generic("503".into())),
            Some(Fault::Denied) => Err(Error::PermissionDenied {
                path: location.map(Path::to_string).unwrap_or_default(),
                source: "403".into(),
            }),
            Some(Fault::AnswerLost) => {
                work.await?;
                Err(generic("connection reset".into()))
            }
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::DiskFull) => {
                let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
                Err(generic(full.into()))
            }
        }
    }

    /// A write as this store understands it.
    fn understood(&self, location: &Path, mut options: PutOptions) -> Result<PutOptions> {
        match (self.conditions, &options.mode) {
            (Conditions::CreateIgnored, PutMode::Create)
            | (Conditions::UpdateIgnored, PutMode::Update(_)) => options.mode = PutMode::Overwrite,
            (Conditions::UpdateUnknown, PutMode::Update(_)) => {
                return Err(Error::NotImplemented {
                    operation: "writes with If-Match".into(),
                    implementer: "faulty".into(),
                });
            }
            (Conditions::UpdateNever, PutMode::Update(_)) => {
                return Err(Error::Precondition {
                    path: location.to_string(),
                    source: "412".into(),
                });
            }
            _ => {}
        }
        Ok(options)
    }

    /// Looks at the fault that waits for a body, and leaves others to [`Self::meet`].
    fn body_fault(&self, location: &Path) -> Option<Fault> {
        let rules = self.rules.lock().unwrap();
        let next = rules.iter().find(|rule| {
            rule.times > 0
                && rule.request == Request::Get
                && location.as_ref().contains(&rule.object)
        })?;
        let of_body = matches!(next.fault, Fault::FlippedBit | Fault::CutBody);
        of_body.then_some(next.fault)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

fn spoil(body: &Bytes, fault: Fault) -> Bytes {
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    if fault == Fault::CutBody {
        bytes.truncate(middle);
    } else {
        bytes[middle] ^= 4;
    }
    bytes.into()
}

impl ObjectStore for FaultyStore {
    fn put_opts<'s, 'p, 'f>(
        &'s self,
        location: &'p Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> BoxFuture<'f, Result<PutResult>>
    where
        's: 'f,
        'p: 'f,
        Self: 'f,
    {
        let options = match self.understood(location, options) {
            Ok(options) => options,
            Err(error) => return async { Err(error) }.boxed(),
        };
        let work = async move {
            let put = self.below.put_opts(location, payload, options).await?;
            self.note_written(location);
            Ok(put)
        };
        self.meet(Request::Put, Some(location), work).boxed()
    }

    fn put_multipart_opts<'s, 'p, 'f>(
        &'s self,
        location: &'p Path,
        options: PutMultipartOptions,
    ) -> BoxFuture<'f, Result<Box<dyn MultipartUpload>>>
    where
        's: 'f,
        'p: 'f,
        Self: 'f,
    {
        self.below.put_multipart_opts(location, options)
    }

    fn get_opts<'s, 'p, 'f>(
        &'s self,
        location: &'p Path,
        options: GetOptions,
    ) -> BoxFuture<'f, Result<GetResult>>
    where
        's: 'f,
        'p: 'f,
        Self: 'f,
    {
        async move {
            let of_body = self.body_fault(location);
            let work = self.below.get_opts(location, options);
            let mut answer = self.meet(Request::Get, Some(location), work).await?;
            answer.meta = self.told(answer.meta);
            if let Some(fault) = of_body {
                let (meta, range, attributes) = (
                    answer.meta.clone(),
                    answer.range.clone(),
                    answer.attributes.clone(),
                );
                let extensions = answer.extensions.clone();
                let body = spoil(&answer.bytes().await?, fault);
                let payload = futures::stream::once(async move { Ok(body) }).boxed();
                answer = GetResult {
                    payload: GetResultPayload::Stream(payload),
                    meta,
                    range,
                    attributes,
                    extensions,
                };
            }
            Ok(answer)
        }
        .boxed()
    }

    fn get_ranges<'s, 'p, 'r, 'f>(
        &'s self,
        location: &'p Path,
        ranges: &'r [Range<u64>],
    ) -> BoxFuture<'f, Result<Vec<Bytes>>>
    where
        's: 'f,
        'p: 'f,
        'r: 'f,
        Self: 'f,
    {
        self.below.get_ranges(location, ranges)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deletes = locations.then(move |location| {
            let store = store.clone();
            async move {
                let location = location?;
                let one = futures::stream::iter([Ok(location.clone())]).boxed();
                let mut below = store.below.delete_stream(one);
                let work = async { below.next().await.expect("an answer per object") };
                store.meet(Request::Delete, Some(&location), work).await
            }
        });
        deletes.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let prefix = prefix.cloned();
        let listing = async move {
            let found = store.below.list(prefix.as_ref()).collect::<Vec<_>>();
            let work = async { Ok(found.await) };
            match store.meet(Request::List, prefix.as_ref(), work).await {
                Ok(found) => {
                    let found = found.into_iter();
                    let told: Vec<_> = found.map(|meta| Ok(store.told(meta?))).collect();
                    futures::stream::iter(told).boxed()
                }
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            }
        };
        futures::stream::once(listing).flatten().boxed()
    }

    fn list_with_delimiter<'s, 'p, 'f>(
        &'s self,
        prefix: Option<&'p Path>,
    ) -> BoxFuture<'f, Result<ListResult>>
    where
        's: 'f,
        'p: 'f,
        Self: 'f,
    {
        let work = self.below.list_with_delimiter(prefix);
        self.meet(Request::List, prefix, work).boxed()
    }

    fn copy_opts<'s, 'a, 'b, 'f>(
        &'s self,
        from: &'a Path,
        to: &'b Path,
        options: CopyOptions,
    ) -> BoxFuture<'f, Result<()>>
    where
        's: 'f,
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.below.copy_opts(from, to, options)
    }
}

type Answer<'f, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'f>>;

impl MultipartStore for FaultyStore {
    fn create_multipart<'s, 'p, 'f>(&'s self, path: &'p Path) -> Answer<'f, MultipartId>
    where
        's: 'f,
        'p: 'f,
        Self: 'f,
    {
        let work = self.below.create_multipart(path);
        self.meet(Request::Put, Some(path), work).boxed()
    }

    fn put_part<'s, 'p, 'i, 'f>(
        &'s self,
        path: &'p Path,
        id: &'i MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Answer<'f, PartId>
    where
        's: 'f,
        'p: 'f,
        'i: 'f,
        Self: 'f,
    {
        let work = self.below.put_part(path, id, part_idx, data);
        self.meet(Request::Put, Some(path), work).boxed()
    }

    fn complete_multipart<'s, 'p, 'i, 'f>(
        &'s self,
        path: &'p Path,
        id: &'i MultipartId,
        parts: Vec<PartId>,
    ) -> Answer<'f, PutResult>
    where
        's: 'f,
        'p: 'f,
        'i: 'f,
        Self: 'f,
    {
        let work = async move {
            let put = self.below.complete_multipart(path, id, parts).await?;
            self.note_written(path);
            Ok(put)
        };
        self.meet(Request::Put, Some(path), work).boxed()
    }

    fn abort_multipart<'s, 'p, 'i, 'f>(
        &'s self,
        path: &'p Path,
        id: &'i MultipartId,
    ) -> Answer<'f, ()>
    where
        's: 'f,
        'p: 'f,
        'i: 'f,
        Self: 'f,
    {
        let work = self.below.abort_multipart(path, id);
        self.meet(Request::Delete, Some(path), work).boxed()
    }
}
