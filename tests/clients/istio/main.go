// Asks a certificate authority of Istio's protocol for a certificate, with Istio's own generated client, over TLS as
// istio-agent sets it up: a client certificate from files, the server judged by root certificates and a host name.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"istio.io/api/security/v1alpha1"
)

var (
	address = flag.String("address", "", "HOST:PORT of the authority")
	name    = flag.String("name", "", "host name that its certificate must have")
	roots   = flag.String("roots", "", "file of root certificates")
	cert    = flag.String("cert", "", "file of the client certificate; none without")
	key     = flag.String("key", "", "file of its key")
	id      = flag.String("id", "", "SPIFFE ID to ask for")
	token   = flag.String("token", "", "bearer token to send along")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", status.Code(err), status.Convert(err).Message())
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	config := &tls.Config{ServerName: *name, RootCAs: x509.NewCertPool()}
	trusted, err := os.ReadFile(*roots)
	if err != nil {
		return err
	}
	config.RootCAs.AppendCertsFromPEM(trusted)
	if *cert != "" {
		own, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{own}
	}
	conn, err := grpc.NewClient(*address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if *token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+*token)
	}
	csr, private, err := request()
	if err != nil {
		return err
	}
	wish, err := structpb.NewStruct(map[string]any{"ImpersonatedIdentity": *id})
	if err != nil {
		return err
	}
	answer, err := v1alpha1.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx,
		&v1alpha1.IstioCertificateRequest{Csr: csr, ValidityDuration: 86400, Metadata: wish})
	if err != nil {
		return err
	}
	return check(answer.CertChain, private)
}

func request() (csr string, private []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, err
	}
	uri, err := url.Parse(*id)
	if err != nil {
		return "", nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
	if err != nil {
		return "", nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, err
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return string(block("CERTIFICATE REQUEST", der)), block("PRIVATE KEY", pkcs8), nil
}

// Reads the chain as istio-agent does: everything in a row is what Envoy shows, the last element is what it trusts.
func check(chain []string, private []byte) error {
	if len(chain) < 2 {
		return errors.New("the chain has no root")
	}
	pair, err := tls.X509KeyPair([]byte(strings.Join(chain, "")), private)
	if err != nil {
		return err
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(chain[len(chain)-1]))
	for _, certificate := range chain[1 : len(chain)-1] {
		intermediates.AppendCertsFromPEM([]byte(certificate))
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, usage := range usages {
		options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := pair.Leaf.Verify(options); err != nil {
			return err
		}
	}
	if len(pair.Leaf.URIs) != 1 || pair.Leaf.URIs[0].String() != *id {
		return fmt.Errorf("the certificate is for %v", pair.Leaf.URIs)
	}
	fmt.Printf("%s until %s\n", *id, pair.Leaf.NotAfter.Format(time.RFC3339))
	return nil
}
