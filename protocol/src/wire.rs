//! Who may become bytes.

use serde::Serialize;

/// Marks a type as a frame: the only thing that [`codec::encode`](crate::codec::encode) takes.
///
/// **The privacy chain stops here.** `Contribution -> Clipped -> Quantised -> Noised -> Masked` are values of the crate
/// `leben-privacy`. None of them is `Wire`, and no other crate can make them so: the trait is ours and the types are
/// privacy's, so Rust's orphan rule forbids the `impl` everywhere but here and there, and privacy does not know this crate.
/// `Masked` alone gives bytes, chunk by chunk, and those travel through `quic::transfer`.
///
/// A raw contribution does not encode:
///
/// ```compile_fail,E0277
/// fn leak(raw: &leben_privacy::Contribution) {
///     let _ = leben_protocol::codec::encode(raw);
/// }
/// ```
///
/// nor can another crate teach it to:
///
/// ```compile_fail,E0117
/// impl leben_protocol::wire::Wire for leben_privacy::Contribution {}
/// ```
///
/// and the same for what it becomes on the way:
///
/// ```compile_fail,E0277
/// fn leak(clipped: &leben_privacy::Clipped) {
///     let _ = leben_protocol::codec::encode(clipped);
/// }
/// ```
/// ```compile_fail,E0277
/// fn leak(quantised: &leben_privacy::Quantised) {
///     let _ = leben_protocol::codec::encode(quantised);
/// }
/// ```
/// ```compile_fail,E0277
/// fn leak(noised: &leben_privacy::Noised) {
///     let _ = leben_protocol::codec::encode(noised);
/// }
/// ```
///
/// That these fail for the right reason is shown by their twin, which names the same types and a real frame, and compiles:
///
/// ```
/// use leben_privacy::{Clipped, Contribution, Noised, Quantised};
/// fn named(_: &Contribution, _: &Clipped, _: &Quantised, _: &Noised) {}
/// fn frame(answer: &leben_protocol::frame::Answer) {
///     let _ = leben_protocol::codec::encode(answer);
/// }
/// ```
///
/// What a frame type must keep to, because the codec cannot check it:
/// * no sequence of a type without bytes (`Vec<()>`): its length would be believed and counted through;
/// * no recursion (`Box<Self>`): depth would be the peer's choice, and the stack is ours;
/// * nothing that needs a self-describing format (`serde_json::Value`, `flatten`, `untagged`, `skip_serializing_if`).
pub trait Wire: Serialize {
    /// The name that errors use: the type's own, without its path.
    fn name() -> &'static str {
        let path = core::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path)
    }
}
