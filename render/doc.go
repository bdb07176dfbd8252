// Package render turns a kustomization of a Git tree into Kubernetes objects,
// and objects into a release: bytes with a digest that can be compared, kept and
// diffed without a cluster.
//
// # Nouns
//
//   - A [Renderer] runs the Kustomize library over a [sources.Tree]. No network,
//     no disk, no process: what would need one is a [RefusedError] that names
//     file, line, column, reason and remedy. Every kustomization is checked as it
//     is read, before Kustomize acts on it, because Kustomize's own loader
//     carries an HTTP and a Git client.
//   - An [Input] is one answer that the tree gave during a render: a file's blob
//     id, a directory, a link, or that a path is absent. A render is a pure
//     function of its inputs, so [Inputs.Unchanged] decides whether another
//     commit can render differently.
//   - A [Result] is the objects in Kustomize's order and the inputs. Its YAML is
//     byte for byte what `kustomize build` of the same version prints.
//   - A [Release] is a result bound to where it runs, with the digest that
//     identifies it. [Release.Encode] gives its canonical bytes.
//   - [Diff] compares releases field by field.
//   - A [Decrypter] decrypts SOPS values (age recipients only) in memory.
//
// # Invariants
//
//   - Secret values stay ciphertext in results, releases, digests and encoded
//     bytes. A Secret with plain values is refused by [NewRelease].
//   - Ciphertext in a result is ciphertext of a source blob, unaltered; its MAC is
//     verified on that blob ([Decrypter.VerifySource]).
//   - Results are shared between callers and must not be modified.
//   - What was found out about a blob holds wherever its id appears again, so a
//     base is judged once for all its environments. Places, references and what
//     a build adds up to are judged each time.
//   - Kustomize keeps its OpenAPI schema in process globals. Builds that set
//     openapi or crds run alone, and the globals are put back afterwards; all
//     others run side by side.
//
// # What kustomize builds and Purser does not
//
// Besides everything remote and every program: absolute paths, plugin
// configuration that is itself a directory to build, links that lead nowhere,
// YAML whose aliases expand beyond all measure, builds beyond [Limits], an object
// twice in two versions of its API, a render without objects, ciphertext that
// could not be decrypted. What both build is byte for byte the same.
//
// The library warns of deprecated fields on standard error by itself.
//
// # Release digest
//
// The digest is "sha256:" and the hex SHA-256 of this canonical JSON document
// (RFC 8785; keys sorted by their bytes; integers keep all their digits):
//
//	{"binding":{"cluster":…,"health":…,"namespace":…},
//	 "declaration":null|{"attestations":[…],"change":{…},"class":…,"migration":…,"modules":[…],"version":…},
//	 "format":"purser.dev/release/v1",
//	 "objects":{"<Ref.Key>":"sha256:…",…}}
//
// An object's digest is that of its own canonical JSON. What follows from the
// objects, such as the image set, is no part of it. The lists attestations and
// modules are left out where they are empty.
package render
