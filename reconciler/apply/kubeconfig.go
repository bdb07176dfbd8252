package apply

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/purser-gitops/purser/sources/credential"
)

// maxKubeconfig bounds the size of a kubeconfig in bytes.
const maxKubeconfig = 1 << 20

// errKubeconfig marks a kubeconfig that asks for more than it may.
var errKubeconfig = errors.New("kubeconfig refused")

// RESTConfig is the configuration of a cluster of the agent: the one it runs in, or one context of a kubeconfig ("" is
// its current context). A kubeconfig comes from elsewhere and is not trusted: programs to run, and files outside the
// kubeconfig's own folder, are refused with errKubeconfig (compare CVE-2022-24817). So are impersonation, which is ours
// to set, and the removed auth-provider.
func RESTConfig(kubeconfig, context string, ownCluster bool) (*rest.Config, error) {
	if !ownCluster {
		return loadKubeconfig(kubeconfig, context)
	}
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("load in-cluster configuration: %w", err)
	}
	return cfg, nil
}

func loadKubeconfig(path, context string) (*rest.Config, error) {
	data, err := credential.ReadFile(path, maxKubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	kc, err := clientcmd.Load(data)
	if err != nil {
		return nil, fmt.Errorf("parse kubeconfig %s: %w", path, err)
	}
	if context == "" {
		context = kc.CurrentContext
	}
	chosen := kc.Contexts[context]
	if chosen == nil {
		return nil, fmt.Errorf("kubeconfig %s has no context %q", path, context)
	}
	if kc.Clusters[chosen.Cluster] == nil {
		return nil, fmt.Errorf("kubeconfig %s: context %q names the unknown cluster %q", path, context, chosen.Cluster)
	}
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", path, err)
	}
	if err := checkKubeconfig(kc.Clusters[chosen.Cluster], kc.AuthInfos[chosen.AuthInfo], folder); err != nil {
		return nil, fmt.Errorf("kubeconfig %s, context %q: %w", path, context, err)
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*kc, context, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("load kubeconfig %s, context %q: %w", path, context, err)
	}
	return cfg, nil
}

// checkKubeconfig refuses what is not allowed and makes file names absolute.
func checkKubeconfig(cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo, folder string) error {
	files := map[string]*string{"certificate-authority": &cluster.CertificateAuthority}
	if user != nil {
		switch {
		case user.Exec != nil:
			return fmt.Errorf("%w: it runs the program %q for credentials: use a token or a client certificate", errKubeconfig, user.Exec.Command)
		case user.AuthProvider != nil:
			return fmt.Errorf("%w: auth-provider %q: use a token or a client certificate", errKubeconfig, user.AuthProvider.Name)
		case user.Impersonate != "" || user.ImpersonateUID != "" || len(user.ImpersonateGroups) > 0 || len(user.ImpersonateUserExtra) > 0:
			return fmt.Errorf("%w: it sets the impersonated user %q: Purser impersonates the tenant itself, remove the as- fields", errKubeconfig, user.Impersonate)
		}
		files["client-certificate"] = &user.ClientCertificate
		files["client-key"] = &user.ClientKey
		files["tokenFile"] = &user.TokenFile
	}
	for field, name := range files {
		if *name == "" {
			continue
		}
		if !filepath.IsAbs(*name) {
			*name = filepath.Join(folder, *name)
		}
		if err := inside(folder, *name); err != nil {
			return fmt.Errorf("%w: %s %s: embed its data, or put the file beside the kubeconfig", errKubeconfig, field, err)
		}
	}
	return nil
}

func inside(folder, name string) error {
	root, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", folder, err)
	}
	file, err := filepath.EvalSymlinks(name)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", name, err)
	}
	rel, err := filepath.Rel(root, file)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return fmt.Errorf("%s lies outside the kubeconfig's folder", name)
	}
	return nil
}
