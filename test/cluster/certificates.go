package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is longer than any run, and starts early enough for clocks that were just set.
const (
	certificateLife = 365 * 24 * time.Hour
	clockSkew       = time.Hour
)

// keyPair is a certificate and its private key, both in PEM.
type keyPair struct {
	certificate, key []byte
}

// authority signs the certificates of one cluster.
type authority struct {
	keyPair
	parsed *x509.Certificate
	signer crypto.Signer
	now    time.Time
}

func newAuthority(now time.Time) (*authority, error) {
	a := &authority{now: now}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "service-proxy test cluster"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	var err error
	if a.keyPair, err = a.sign(template); err != nil {
		return nil, err
	}
	return a, nil
}

// server returns a certificate of the API server for the names and addresses it is reached by.
func (a *authority) server(names []string, addresses []netip.Addr) (keyPair, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    names,
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(address.AsSlice()))
	}
	return a.sign(template)
}

// client returns a certificate that the API server takes for a user in groups.
func (a *authority) client(user string, groups ...string) (keyPair, error) {
	return a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// sign makes a key and a certificate for it. The first one that an authority signs is its own.
func (a *authority) sign(template *x509.Certificate) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("making a key for %s: %w", template.Subject.CommonName, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return keyPair{}, fmt.Errorf("making a serial number: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = a.now.Add(-clockSkew), a.now.Add(certificateLife)
	parent, signer := a.parsed, a.signer
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return keyPair{}, fmt.Errorf("signing the certificate of %s: %w", template.Subject.CommonName, err)
	}
	if a.parsed == nil {
		if a.parsed, err = x509.ParseCertificate(der); err != nil {
			return keyPair{}, fmt.Errorf("reading the certificate of the authority: %w", err)
		}
		a.signer = key
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPair{}, fmt.Errorf("encoding the key of %s: %w", template.Subject.CommonName, err)
	}
	return keyPair{
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// write stores a pair as NAME.crt and NAME.key in a folder.
func (p keyPair) write(dir, name string) error {
	for suffix, content := range map[string][]byte{".crt": p.certificate, ".key": p.key} {
		if err := os.WriteFile(filepath.Join(dir, name+suffix), content, 0o600); err != nil {
			return fmt.Errorf("writing the certificates: %w", err)
		}
	}
	return nil
}
