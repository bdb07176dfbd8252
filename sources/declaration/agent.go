package declaration

import (
	"fmt"
	"time"

	"github.com/purser-gitops/purser/sources/identity"
)

// AgentConfig is the agent's own file: how the process runs, never what it
// deploys. File names in it are absolute once loaded. Secrets are in files only.
type AgentConfig struct {
	Position `json:"-"`

	// Name of this agent in the evidence log.
	Writer string `json:"writer,omitempty" jsonschema:"default=purser,format=name"`
	// Folder for everything the agent keeps on disk. One agent uses it at a time.
	DataDir string `json:"dataDir" jsonschema:"required,format=file"`
	// Address of the HTTP listener.
	Listen string `json:"listen,omitempty" jsonschema:"default=127.0.0.1:8780,format=listen"`
	// Which of the sources declares the estate.
	Governance AgentGovernance `json:"governance"`
	// Git repositories with declarations and manifests.
	Sources []AgentSource `json:"sources" jsonschema:"required,minItems=1"`
	// Clusters and the way into them.
	Clusters []AgentCluster `json:"clusters" jsonschema:"required,minItems=1"`
	// Where the evidence log is published.
	Audit AgentAudit `json:"audit" jsonschema:"required"`
	// How much runs at the same time.
	Concurrency AgentConcurrency `json:"concurrency"`
	// Keys that open encrypted values of manifests.
	Decryption AgentDecryption `json:"decryption"`
	// Where alerts are pushed to, beside being offered as metrics.
	Alertmanager AgentAlertmanager `json:"alertmanager"`
	// Where backups are written to, what they are made of, and which keys open them.
	Backup AgentBackup `json:"backup"`
	// Bounds on what is read from repositories.
	Limits AgentLimits `json:"limits"`
}

// AgentGovernance says where the declarations are.
type AgentGovernance struct {
	// Name of the source. May be left out when there is exactly one.
	Source string `json:"source,omitempty" jsonschema:"format=name"`
	// Branch that people review into.
	Branch string `json:"branch,omitempty" jsonschema:"default=main,format=branch"`
	// Folder of the declarations, relative to the root of the repository.
	Path string `json:"path,omitempty" jsonschema:"default=purser,format=path"`
	// Other addresses of the same repository, by which people push statements: each names the one that it is meant for.
	Addresses []string `json:"addresses,omitempty" jsonschema:"uniqueItems=true,format=repository"`
	// What makes the first declarations trustworthy, before the evidence log has any. One of its ways, not several.
	Trust AgentTrust `json:"trust"`
}

// AgentTrust is where trust in the declarations begins.
type AgentTrust struct {
	// Trust whatever the branch has when the agent first sees it. This is recorded.
	OnFirstUse bool `json:"onFirstUse" jsonschema:"default=false"`
	// Commit, of the governance source, whose declarations are trusted.
	Commit string `json:"commit,omitempty" jsonschema:"format=commit"`
	// Public keys whose signatures make declarations trusted.
	Keys []AgentTrustKey `json:"keys,omitempty" jsonschema:"minItems=1"`
	// How many different ones of these keys must have signed.
	Threshold int `json:"threshold" jsonschema:"default=1,minimum=1"`
}

// AgentTrustKey is one public key that trust begins with.
type AgentTrustKey struct {
	// SSH public key, as in the .pub file.
	SSH string `json:"ssh,omitempty"`
	// OpenPGP public key, armored.
	OpenPGP string `json:"openpgp,omitempty"`
}

// Identities are the keys that trust begins with.
func (t AgentTrust) Identities() ([]identity.Key, error) {
	keys := make([]identity.Key, 0, len(t.Keys))
	for _, k := range t.Keys {
		key, err := parseKey(k.SSH, k.OpenPGP)
		if err != nil {
			return nil, fmt.Errorf("read key of trust: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// AgentSource is one Git repository.
type AgentSource struct {
	// Name that declarations refer to.
	Name string `json:"name" jsonschema:"required,format=name"`
	// Address: https, http, ssh or file, an absolute path, or user@host:path. Never with a password or token in it.
	URL string `json:"url" jsonschema:"required,format=repository"`
	// Credentials, as files.
	Auth Auth `json:"auth"`
	// How often to look for new commits when no webhook tells.
	Interval time.Duration `json:"interval" jsonschema:"default=1m,minimum=1s"`
	// Longest time one exchange with the server may take.
	Timeout time.Duration `json:"timeout" jsonschema:"default=1m,minimum=1s"`
	// Signed notice of a push.
	Webhook Webhook `json:"webhook"`
	// Forge on which people review changes of this repository.
	Forge AgentForge `json:"forge"`
}

// AgentForge is the way to the pull requests of a repository. Requests to it have the timeout of the source.
type AgentForge struct {
	// Software that it runs.
	Type string `json:"type" jsonschema:"required,enum=gitea,enum=github,enum=gitlab"`
	// Address that people open in a browser.
	URL string `json:"url" jsonschema:"required,format=address"`
	// Name of the repository there, with its owner.
	Project string `json:"project" jsonschema:"required,format=project"`
	// File with the token of the agent's account.
	TokenFile string `json:"tokenFile" jsonschema:"required,format=file"`
	// File with certificates of authorities to trust beside the system's.
	CAFile string `json:"caFile,omitempty" jsonschema:"format=file"`
	// Ask about reviews only: leave no commit statuses and no comments.
	ReadOnly bool `json:"readOnly" jsonschema:"default=false"`
}

// AgentAlertmanager is where alerts go.
type AgentAlertmanager struct {
	// Addresses of all members of the Alertmanager cluster, or of the only one, without /api. Each is told everything.
	URLs []string `json:"urls,omitempty" jsonschema:"required,minItems=1,uniqueItems=true,format=address"`
	// File with a bearer token.
	TokenFile string `json:"tokenFile,omitempty" jsonschema:"format=file"`
	// File with certificates of authorities to trust beside the system's.
	CAFile string `json:"caFile,omitempty" jsonschema:"format=file"`
	// Longest time one request may take.
	Timeout time.Duration `json:"timeout" jsonschema:"default=10s,minimum=1ms"`
}

// Auth names files with credentials. They are read at every use, so that they
// can be rotated.
type Auth struct {
	// File with the user's name.
	UsernameFile string `json:"usernameFile,omitempty" jsonschema:"format=file"`
	// File with the password or token.
	PasswordFile string `json:"passwordFile,omitempty" jsonschema:"format=file"`
	// File with the private SSH key.
	IdentityFile string `json:"identityFile,omitempty" jsonschema:"format=file"`
	// File with the keys of SSH servers.
	KnownHostsFile string `json:"knownHostsFile,omitempty" jsonschema:"format=file"`
	// File with certificates of authorities to trust beside the system's.
	CAFile string `json:"caFile,omitempty" jsonschema:"format=file"`
}

// Webhook is the notice of a push to /hooks/<source>.
type Webhook struct {
	// File with the secret that notices are signed with.
	SecretFile string `json:"secretFile" jsonschema:"required,format=file"`
}

// AgentCluster is the way into one cluster.
type AgentCluster struct {
	// Name that declarations refer to.
	Name string `json:"name" jsonschema:"required,format=name"`
	// Kubeconfig file.
	Kubeconfig string `json:"kubeconfig,omitempty" jsonschema:"format=file"`
	// Context of the kubeconfig. Default: its current one.
	Context string `json:"context,omitempty"`
	// Use the service account of the pod the agent runs in, instead of a kubeconfig.
	InCluster bool `json:"inCluster" jsonschema:"default=false"`
}

// AgentAudit is where evidence goes and whose signatures count.
type AgentAudit struct {
	// Repository of the evidence log. Never with a password or token in it.
	URL string `json:"url" jsonschema:"required,format=repository"`
	// Credentials, as files.
	Auth Auth `json:"auth"`
	// Branch of the log; <year> stands for the year of the record, in UTC.
	Branch string `json:"branch,omitempty" jsonschema:"default=audit/<year>,format=branch"`
	// Private key that signs the records (see purser keygen).
	SigningKeyFile string `json:"signingKeyFile" jsonschema:"required,format=file"`
	// Public keys of all writers whose records count. Default: the signing key's own.
	TrustedKeysFile string `json:"trustedKeysFile,omitempty" jsonschema:"format=file"`
	// File with a checkpoint of the log (see purser evidence checkpoint). The agent does not start with a log that was set back to before it.
	CheckpointFile string `json:"checkpointFile,omitempty" jsonschema:"format=file"`
}

// AgentConcurrency bounds what runs at the same time.
type AgentConcurrency struct {
	// Renders at the same time.
	Render int `json:"render" jsonschema:"default=2,minimum=1,maximum=64"`
	// Environments of one tenant at the same time, on each cluster. Most of the time they wait for servers.
	PerTenant int `json:"perTenant" jsonschema:"default=24,minimum=1,maximum=256"`
}

// AgentDecryption names the keys that open encrypted values.
type AgentDecryption struct {
	// File with age identities, for values encrypted with SOPS.
	AgeKeyFile string `json:"ageKeyFile,omitempty" jsonschema:"format=file"`
}

// AgentLimits bounds what is read from a repository.
type AgentLimits struct {
	// Largest file that is read, in bytes.
	FileBytes int64 `json:"fileBytes" jsonschema:"default=1048576,minimum=1024"`
	// Most files and folders in one commit.
	TreeEntries int64 `json:"treeEntries" jsonschema:"default=100000,minimum=1"`
	// Most bytes one fetch may bring.
	PackBytes int64 `json:"packBytes" jsonschema:"default=536870912,minimum=1024"`
	// Most objects one fetch may bring.
	PackObjects int64 `json:"packObjects" jsonschema:"default=1000000,minimum=1"`
	// Largest object, in bytes and inflated, in a fetched history.
	ObjectBytes int64 `json:"objectBytes" jsonschema:"default=134217728,minimum=1024"`
	// Memory for recently read objects, in bytes, per repository.
	CacheBytes int64 `json:"cacheBytes" jsonschema:"default=67108864,minimum=1024"`
}

// Known is what declarations may refer to under this configuration.
func (c *AgentConfig) Known() Known {
	k := Known{Stores: []string{}, Governance: Source{Repository: c.Governance.Source, Branch: c.Governance.Branch, Path: c.Governance.Path}}
	for _, s := range c.Sources {
		k.Sources = append(k.Sources, s.Name)
	}
	for _, cl := range c.Clusters {
		k.Clusters = append(k.Clusters, cl.Name)
	}
	for _, s := range c.Backup.Stores {
		k.Stores = append(k.Stores, s.Name)
	}
	if len(c.Clusters) == 1 {
		k.Cluster = c.Clusters[0].Name
	}
	return k
}
