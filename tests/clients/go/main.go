// Asks the Workload API for everything go-spiffe can ask for, and prints one line per answer. With "watch" as third
// argument it goes on, and prints a line for each SVID it is given, until its standard input ends.
package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

type watcher struct{}

func (watcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	svid := update.DefaultSVID()
	if _, _, err := x509svid.Verify(svid.Certificates, update.Bundles); err != nil {
		log.Fatalf("an SVID that its own bundle refuses: %v", err)
	}
	fmt.Println("serial", svid.Certificates[0].SerialNumber)
}

func (watcher) OnX509ContextWatchError(err error) {
	fmt.Fprintln(os.Stderr, "watch:", err)
}

func main() {
	address, audience := workloadapi.WithAddr(os.Args[1]), os.Args[2]
	if len(os.Args) > 3 && os.Args[3] == "watch" {
		watch(address)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	fetch(ctx, address, audience)
}

func watch(address workloadapi.ClientOption) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := workloadapi.WatchX509Context(ctx, watcher{}, address); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func fetch(ctx context.Context, address workloadapi.ClientOption, audience string) {
	client, err := workloadapi.New(ctx, address)
	check(err)
	defer client.Close()

	x509Context, err := client.FetchX509Context(ctx)
	check(err)
	svid := x509Context.DefaultSVID()
	fmt.Println("x509", svid.ID)
	_, _, err = x509svid.Verify(svid.Certificates, x509Context.Bundles, x509svid.WithTime(time.Now()))
	check(err)
	bundle, err := x509Context.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	check(err)
	fmt.Println("authorities", len(bundle.X509Authorities()))
	if usage := svid.Certificates[0].KeyUsage; usage&x509.KeyUsageDigitalSignature == 0 {
		log.Fatalf("key usage %b", usage)
	}

	token, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	check(err)
	fmt.Println("jwt", token.ID)
	validated, err := client.ValidateJWTSVID(ctx, token.Marshal(), audience)
	check(err)
	fmt.Println("validated", validated.ID)
	bundles, err := client.FetchJWTBundles(ctx)
	check(err)
	_, err = jwtsvid.ParseAndValidate(token.Marshal(), bundles, []string{audience})
	check(err)
	keys, err := bundles.GetJWTBundleForTrustDomain(svid.ID.TrustDomain())
	check(err)
	fmt.Println("jwt-bundles", len(keys.JWTAuthorities()))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
