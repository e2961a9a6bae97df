// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/component-base/version"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
	"example.io/coredump/pkg/generated/openapi"
)

// NewGenericConfig gives the configuration of the generic API server as this server needs it, without listener, authentication
// and authorization.
func NewGenericConfig() *genericapiserver.RecommendedConfig {
	c := genericapiserver.NewRecommendedConfig(Codecs)
	c.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()

	// kubectl explain reads OpenAPI; without version 3 no group can be installed. Scheme has each type twice, and
	// clients have no use for the internal version.
	external := runtime.NewScheme()
	utilruntime.Must(v1alpha1.AddToScheme(external))
	namer := openapinamer.NewDefinitionNamer(external)
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, namer)
	c.OpenAPIConfig.Info.Title = "coredump"
	c.OpenAPIConfig.Info.Version = version.Get().GitVersion
	c.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, namer)
	c.OpenAPIV3Config.Info.Title = "coredump"
	c.OpenAPIV3Config.Info.Version = version.Get().GitVersion

	// Downloads take as long as they take. They have limits of their own, in pkg/registry/download.
	c.LongRunningFunc = filters.BasicLongRunningRequestCheck(sets.NewString("watch"), sets.NewString("dump", "proxy"))
	c.EnableProfiling = false
	return c
}
