package declaration

// AgentBackup says what of backups is the agent's own: where they go, where they come from and which keys open them. When they
// are made and how long they are kept is declared (see [BackupPolicy]).
type AgentBackup struct {
	// Places that backups are written to.
	Stores []AgentStore `json:"stores,omitempty" jsonschema:"minItems=1"`
	// Databases and filestores of environments. Those that are not listed are not backed up.
	Databases []AgentDatabase `json:"databases,omitempty" jsonschema:"minItems=1"`
	// Public age keys that every backup is sealed to: any one of their private keys opens it. Name the estate's, and one that is kept in escrow.
	Recipients []string `json:"recipients,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=recipient"`
	// File with age identities that open backups, for verifications and to use again what earlier backups have.
	IdentityFile string `json:"identityFile,omitempty" jsonschema:"format=file"`
	// File with age identities for drills, best the one in escrow: that proves that it still opens backups. Default: identityFile.
	DrillIdentityFile string `json:"drillIdentityFile,omitempty" jsonschema:"format=file"`
	// Folder for what does not fit into memory and for scratch servers. Every user must be able to pass through it. Default: scratch, below dataDir.
	ScratchDir string `json:"scratchDir,omitempty" jsonschema:"format=file"`
	// Folders with PostgreSQL's programs, first one first. Default: where packages put them, then PATH.
	Programs []string `json:"programs,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=file"`
	// Backups at the same time, and as many verifications and drills. A backup takes 256 MiB of memory at most.
	Concurrency int `json:"concurrency" jsonschema:"default=1,minimum=1,maximum=32"`
}

// AgentStore is a place for backups: a bucket or a folder.
type AgentStore struct {
	// Name that declarations refer to.
	Name string `json:"name" jsonschema:"required,format=name"`
	// Bucket, or a part of one, on an S3 server.
	S3 AgentBucket `json:"s3"`
	// Folder of this machine.
	Directory AgentDirectory `json:"directory"`
}

// AgentBucket is a bucket with versions and Object Lock.
type AgentBucket struct {
	// Address of the server; http for loopback addresses alone. Default: that of AWS.
	Endpoint string `json:"endpoint,omitempty" jsonschema:"format=address"`
	// Region of the bucket.
	Region string `json:"region,omitempty" jsonschema:"default=us-east-1"`
	// Name of the bucket.
	Bucket string `json:"bucket" jsonschema:"required,format=bucket"`
	// Beginning of all keys, with "/" at its end.
	Prefix string `json:"prefix,omitempty" jsonschema:"format=prefix"`
	// File, in AWS's format, with the credentials of the identity that writes and reads.
	CredentialsFile string `json:"credentialsFile" jsonschema:"required,format=file"`
	// File with certificates of authorities to trust beside the system's.
	CAFile string `json:"caFile,omitempty" jsonschema:"format=file"`
	// Identity that deletes what is no longer needed. Without it, nothing is ever deleted.
	Expiry AgentExpiry `json:"expiry"`
}

// AgentExpiry is the identity that deletes expired backups, and does nothing else.
type AgentExpiry struct {
	// File, in AWS's format, with the credentials of the identity that deletes.
	CredentialsFile string `json:"credentialsFile" jsonschema:"required,format=file"`
}

// AgentDirectory is a folder that backups are written to. Its locks bind only those who use it through Purser.
type AgentDirectory struct {
	// The folder, which exists. The agent deletes in it with its own rights.
	Path string `json:"path" jsonschema:"required,format=file"`
}

// AgentDatabase is the database and the filestore of an environment.
type AgentDatabase struct {
	// Name of the environment.
	Environment string `json:"environment" jsonschema:"required,format=name"`
	// Name or address of the server, or the absolute path of the folder with its Unix socket.
	Host string `json:"host" jsonschema:"required,format=host"`
	// Port of the server.
	Port int `json:"port" jsonschema:"default=5432,minimum=1,maximum=65535"`
	// User to connect as.
	User string `json:"user" jsonschema:"required"`
	// Name of the database.
	Database string `json:"database" jsonschema:"required"`
	// File with the password and nothing else.
	PasswordFile string `json:"passwordFile,omitempty" jsonschema:"format=file"`
	// How the connection is secured, as PostgreSQL's sslmode. A Unix socket needs nothing of it.
	TLS string `json:"tls,omitempty" jsonschema:"enum=verify-full,enum=verify-ca,enum=require,enum=disable,default=verify-full"`
	// File with certificates of the server's authorities. verify-full and verify-ca need it.
	CAFile string `json:"caFile,omitempty" jsonschema:"format=file"`
	// Folder of the database's attachments, in Odoo's data directory: filestore/DATABASE.
	Filestore string `json:"filestore" jsonschema:"required,format=file"`
}
