// Cri-call makes one call of Kubernetes' container runtime interface. The request is read from standard input and the
// response printed, both as JSON in the mapping that protobuf defines.
//
//	cri-call -address SOCKET SERVICE METHOD
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	// Registers the descriptors of the interface.
	_ "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pulling a large image takes longest.
const patience = 5 * time.Minute

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cri-call:", err)
		os.Exit(1)
	}
}

func run() error {
	address := flag.String("address", "", "socket of the runtime")
	flag.Parse()
	method, err := find(flag.Arg(0), flag.Arg(1))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	request, response := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	if err := protojson.Unmarshal(text, request); err != nil {
		return fmt.Errorf("request of %s: %w", method.Name(), err)
	}
	connection, err := grpc.NewClient("unix://"+*address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	if err := connection.Invoke(ctx, path, request, response); err != nil {
		return fmt.Errorf("%s: %w", method.Name(), err)
	}
	text, err = protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(response)
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(text))
	return err
}

func find(service, method string) (protoreflect.MethodDescriptor, error) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("runtime.v1." + service))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", service, err)
	}
	descriptor, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not a service", service)
	}
	if m := descriptor.Methods().ByName(protoreflect.Name(method)); m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("service %s has no method %s", service, method)
}
